"""reward@OBJECTIVE: train, load or import the reward of one objective, and measure it on held-out rows."""

import inspect
import sys
from pathlib import Path

from bonesoup.files import appearing, file_digest, read_jsonl, write_json
from bonesoup.paths import METRICS, REWARDS, SFT
from bonesoup.rewards.score import load_classifier, load_function, load_reward
from bonesoup.rewards.train import held_out, train_reward
from bonesoup.settings.schema import Settings
from bonesoup.weights.pretrained import load_tokenizer


def run(settings: Settings, key: str) -> None:
    reward = settings.rewards[key]
    spec = {"objective": key, "kind": reward.kind}
    with appearing(REWARDS / key) as folder:
        folder.mkdir()
        if reward.kind == "function":
            check_source(reward.function, reward.source)
            spec |= {"function": reward.function, "digest": file_digest(Path(reward.source))}
        elif reward.kind == "pretrained":
            spec |= reward.model_dump(include={"input", "logit"})
            named = reward.model_dump(include={"model", "revision"})
            if reward.convert_bin:
                load_classifier(reward.model, reward.revision, convert_bin=True).save_pretrained(folder / "model")
                load_tokenizer(reward.model, reward.revision).save_pretrained(folder / "model")
                named = {"converted": named}
            spec |= named
        else:
            rows = [row for row in read_jsonl(Path(reward.source)) if row["split"] == "train"]
            spec |= train_reward(f"reward@{key}", SFT, rows, reward, settings.seed, folder / "model", settings.device)
        write_json(folder / "reward.json", spec)
        if reward.kind != "function":
            rows = [row for row in read_jsonl(Path(reward.source)) if row["split"] == "validation"]
            spec |= held_out(load_reward(folder, settings.device), rows)
            write_json(folder / "reward.json", spec)
    write_json(METRICS / f"reward-{key}.json", {k: v for k, v in spec.items() if isinstance(v, float | int)})
    if "accuracy" in spec:
        interval = f"[{spec['accuracy_low']:.3f}, {spec['accuracy_high']:.3f}]"
        print(f"reward@{key}: held-out accuracy {spec['accuracy']:.3f} {interval} on {spec['n']}")


def check_source(name: str, source: str) -> None:
    """DVC watches `source`: were it not the file that runs, an edited reward would re-run nothing.

    Raises:
        ValueError: the function cannot be imported, or another file defines it.
    """
    function = inspect.unwrap(load_function(name))
    # A callable object has no source of its own; the module that names it made it.
    owner = function if inspect.isfunction(function) else sys.modules[name.partition(":")[0]]
    try:
        file = inspect.getsourcefile(owner)
    except TypeError:  # of a module that is not written in Python
        file = None
    if not (file and Path(source).exists() and Path(file).samefile(source)):
        raise ValueError(f"reward function {name!r} is defined in {file}, not in its source {source}: correct `source`")
