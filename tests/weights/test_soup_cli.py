"""`bonesoup soup` on people's own adapters: the folder it writes, and options that contradict each other."""

from pathlib import Path

import architectures
import pytest
import torch
from peft import PeftModel
from ruamel.yaml import YAML
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner

from bonesoup.cli.main import app
from bonesoup.weights import mix
from bonesoup.weights.fold import fold

IDS = torch.arange(12)[None]


@pytest.fixture(scope="module")
def words(tmp_path_factory) -> list[str]:
    """Return a base and two adapters, as options."""
    root = tmp_path_factory.mktemp("theirs")
    architectures.base("llama").save_pretrained(root / "base")
    options = ["soup", "--base", str(root / "base")]
    for seed, name in enumerate(("calm", "bold")):
        architectures.policy(root / "base", root / name, seed, r=2 + seed, target_modules=["q_proj", "up_proj"])
        options += ["--adapter", f"{name}={root / name}"]
    return options


def logits(model) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(IDS).logits


def test_an_adapter_and_a_whole_model_answer_alike(words, tmp_path):
    base = words[2]
    weights = ["--weight", "calm=1.4,bold=-0.4"]
    for out, more in ((tmp_path / "adapter", []), (tmp_path / "full", ["--full"])):
        done = CliRunner().invoke(app, [*words, *weights, "--out", str(out), *more])
        assert done.exit_code == 0, done.output
        assert "calm +1.4000, bold -0.4000" in done.output
    mixed = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), tmp_path / "adapter")
    whole = AutoModelForCausalLM.from_pretrained(tmp_path / "full")
    torch.testing.assert_close(logits(mixed), logits(whole), atol=1e-4, rtol=1e-4)
    assert (logits(whole) - logits(AutoModelForCausalLM.from_pretrained(base))).abs().max() > 0.1
    assert "| calm | 1.4 |" in (tmp_path / "adapter/README.md").read_text()


def test_a_folder_with_brackets_in_its_name_is_printed_as_it_is(words, tmp_path):
    out = tmp_path / "mixed[calm]"
    done = CliRunner().invoke(app, [*words, "--weight", "calm=1,bold=0", "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert f"{out}: calm +1.0000" in done.output


def test_a_soup_file_is_mixed_by_weights_by_a_preset_or_by_a_preference(words, tmp_path):
    base = Path(words[2])
    content = {
        "base": str(base),
        "adapters": {name: str(base.parent / name) for name in ("calm", "bold")},
        "rows": {"calm": {"kind": 0.7, "brief": 0.3}, "bold": {"kind": 0.3, "brief": 0.7}},
        "presets": {"wild": {"bold": 1.5}},
        "preferences": {"gentle": {"kind": 0.9, "brief": 0.1}},
    }
    with open(tmp_path / "soup.yaml", "w") as out:
        YAML().dump(content, out)
    for place, (option, value, shown) in enumerate(
        [
            ("--weight", "calm=1.4,bold=-0.4", "calm +1.4000, bold -0.4000"),
            ("--weight", "wild", "calm +0.0000, bold +1.5000"),
            ("--preference", "gentle", "calm +1.5000, bold -0.5000"),
            ("--preference", "kind=0.5,brief=0.5", "calm +0.5000, bold +0.5000"),
        ]
    ):
        out = tmp_path / str(place)
        done = CliRunner().invoke(app, ["soup", str(tmp_path / "soup.yaml"), option, value, "--out", str(out)])
        assert done.exit_code == 0, (done.output, done.exception)
        assert shown in done.output
    mixed = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), tmp_path / "2")
    weights = {"calm": 1.5, "bold": -0.5}
    fold(base, mix(base, content["adapters"], weights), tmp_path / "folded")
    whole = AutoModelForCausalLM.from_pretrained(tmp_path / "folded")
    torch.testing.assert_close(logits(mixed), logits(whole), atol=1e-4, rtol=1e-4)


def test_compressed_to_a_rank(words, tmp_path):
    done = CliRunner().invoke(app, [*words, "--weight", "calm=1,bold=1", "--rank", "2", "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert "rank 2\n" in done.output
    assert "relative error: " in done.output
    again = mix(words[2], {"small": tmp_path / "out"}, {"small": 1.0})
    assert {len(a) for a, _ in again.tensors.values()} == {2}


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ([], "need --base, --adapter and --weight"),
        (["--weight", "calm=1,bold=x"], "the weight of bold is 'x', expected a number"),
        (["--weight", "calm"], "--weight is 'calm', expected a name and a value such as calm=1.4"),
        (["--weight", "calm=1,calm=2,bold=1"], "--weight names calm twice"),
        (["--weight", "calm=1", "--preference", "balanced"], "give --preference, or --base"),
        (["--weight", "calm=1,bold=0", "--method", "bone"], "--method chooses a soup of a run"),
    ],
)
def test_words_that_make_no_sense_are_bad_usage(words, more, message, tmp_path):
    done = CliRunner().invoke(app, [*words, *more, "--out", str(tmp_path / "out")])
    assert done.exit_code == 2
    assert message in " ".join(done.output.split()).replace("│ ", "").replace(" │", "")


def test_merge_says_where_adapters_go(words, tmp_path):
    adapter = words[4].partition("=")[2]
    done = CliRunner().invoke(app, ["merge", "--model", f"{adapter}=1", "--out", str(tmp_path / "out")])
    assert done.exit_code == 1
    assert "is the folder of an adapter, not of a Transformers model" in str(done.exception)
    assert f"bonesoup soup --base MODEL --adapter a={adapter}" in str(done.exception)
