"""Other people's models: safetensors, explicitly accepted pickles, and hostile folders that achieve nothing."""

import shutil
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from bonesoup.files import read_json, write_json
from bonesoup.generation.soup import Policy, Soup, SoupModel
from bonesoup.settings.schema import Model
from bonesoup.training.base import base_policy
from bonesoup.weights.pretrained import load_model, load_tokenizer


class Bomb:
    """Make a file when unpickled."""

    def __init__(self, made: Path):
        self.made = made

    def __reduce__(self):
        return Path.touch, (self.made,)


@pytest.fixture
def pickled(tiny_policy, tmp_path) -> Path:
    """Copy the tiny policy with its weights in pytorch_model.bin alone."""
    folder = tmp_path / "theirs"
    shutil.copytree(tiny_policy, folder)
    state = AutoModelForCausalLM.from_pretrained(tiny_policy).state_dict()
    torch.save({name: value.clone() for name, value in state.items()}, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    return folder


def base(folder: Path, **more):
    return base_policy(Model(source=str(folder), context=64, **more), [], 0)[0]


def test_a_pickle_is_refused_unless_the_settings_name_it(pickled):
    with pytest.raises(ValueError, match=r"theirs cannot be read as safetensors.*`convert_bin: true`"):
        base(pickled)


def test_a_pickle_that_is_named_gives_the_same_weights(pickled, tiny_policy):
    read, made = base(pickled, convert_bin=True).state_dict(), base(tiny_policy).state_dict()
    assert read.keys() == made.keys()
    assert all(torch.equal(read[name], made[name]) for name in made)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_a_hostile_pickle_is_refused_without_running_it(pickled, tmp_path, zipped):
    made, file = tmp_path / "made", pickled / "pytorch_model.bin"
    state = torch.load(file, weights_only=True)
    torch.save(state | {"bomb": Bomb(made)}, file, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match="theirs: its pickle holds more than weights"):
        base(pickled, convert_bin=True)
    assert not made.exists()
    torch.load(file, weights_only=False)
    assert made.exists(), "the pickle was harmless"


@pytest.mark.parametrize(
    ("file", "named", "load"),
    [
        ("config.json", {"AutoConfig": "theirs.A", "AutoModelForCausalLM": "theirs.B"}, AutoModelForCausalLM),
        ("tokenizer_config.json", {"AutoTokenizer": ["theirs.A", None]}, AutoTokenizer),
    ],
    ids=["model", "tokenizer"],
)
def test_a_models_own_code_is_not_run(tiny_policy, tmp_path, monkeypatch, file, named, load):
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    folder, made = tmp_path / "theirs", tmp_path / "made"
    shutil.copytree(tiny_policy, folder)
    (folder / "theirs.py").write_text(f"open({str(made)!r}, 'w')\n")
    settings = read_json(folder / file) | {"auto_map": named}
    write_json(folder / file, settings | ({"model_type": "theirs"} if "model_type" in settings else {}))
    with suppress(ValueError):
        load_tokenizer(folder) if load is AutoTokenizer else load_model(load, folder)
    assert not made.exists()
    with suppress(AttributeError):
        load.from_pretrained(folder, trust_remote_code=True)
    assert made.exists(), "the code was not reached by any way"


def test_a_soup_takes_no_pickle_and_nothing_from_the_hub(tiny_policy, tmp_path):
    def soup(base: Path, *policies: Policy) -> Soup:
        return Soup("bone", base, ("a", "b"), "solve", policies, ())

    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 1, "target_modules": ["q_proj"]}')
    torch.save({}, adapter / "adapter_model.bin")
    with pytest.raises(ValueError, match=r"adapter_model\.safetensors of backbone-1 does not exist"):
        SoupModel.load(soup(tiny_policy, Policy("backbone-1", adapter, (1.0, 0.0))))
    with pytest.raises(ValueError, match="its base owner/model does not exist"):
        SoupModel.load(soup(Path("owner/model")))
