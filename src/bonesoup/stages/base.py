"""base: bring a pretrained model, whatever it comes in, into an ordinary Transformers folder."""

from bonesoup.files import appearing, write_json
from bonesoup.paths import BASE
from bonesoup.settings.schema import Settings
from bonesoup.training.base import pretrained


def run(settings: Settings, key: None) -> None:
    model = settings.model
    with appearing(BASE) as folder:
        folder.mkdir()
        if model.source == "scratch":
            # The tokenizer is learned from the SFT texts, by the stage sft.
            print("base: from scratch, made by sft")
            keeps_template = None
        else:
            policy, tokenizer, keeps_template = pretrained(model)
            policy.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
            print(f"base: {model.source}, {policy.num_parameters():,} parameters in {model.dtype}")
        facts = {"source": model.source, "pin": model.revision or model.sha256, "own_chat_template": keeps_template}
        write_json(folder / "base.json", facts)
