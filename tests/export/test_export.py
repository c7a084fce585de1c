"""Exports: the layout, and the README's own lines against the merged weights."""

import json
import re
import shlex
from dataclasses import replace

import numpy as np
import pytest
import torch
from exported import ROWS
from peft import PeftModel
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner

from bonesoup.cli.main import app
from bonesoup.export import layout, vllm
from bonesoup.generation import soup_file
from bonesoup.weights import mix
from bonesoup.weights.fold import fold

IDS = torch.arange(30)[None]
# A number of the one adapter left: beyond both ends too.
NUMBERS = [-0.75, 0.0, 0.3, 1.0, 1.75]


def exported(mixed, out, engine: str, *words: str):
    done = CliRunner().invoke(app, ["export", "--for", engine, "--out", str(out), *words])
    assert done.exit_code == 0, (done.output, done.exception)
    return (out / "README.md").read_text()


@torch.no_grad()
def logits(model) -> torch.Tensor:
    return model.eval()(IDS).logits


def dense(mixed, tmp_path, weights: dict) -> torch.Tensor:
    """Compute logits of the base with the adapters folded in."""
    folder = tmp_path / "-".join(f"{value:g}" for value in weights.values())
    fold(mixed / "base", mix(mixed / "base", {name: mixed / name for name in weights}, weights), folder)
    return logits(AutoModelForCausalLM.from_pretrained(folder))


def block(readme: str, language: str, index: int = 0) -> str:
    return re.findall(rf"```{language}\n(.*?)```", readme, re.DOTALL)[index]


def test_two_objectives_are_one_adapter_and_one_number(mixed, tmp_path, monkeypatch):
    readme = exported(mixed, tmp_path / "out", "peft", str(mixed / "soup.yaml"))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["README.md", "adapters", "base"]
    assert [path.name for path in (tmp_path / "out/adapters").iterdir()] == ["bold"]
    assert "Not in the table, since their weights do not sum to 1: both." in readme
    code = block(readme, "python")
    assert "{'bold': -0.5}" in code.replace("-0.49999999999999994", "-0.5").replace("-0.5000000000000001", "-0.5")
    monkeypatch.chdir(tmp_path / "out")
    for number in NUMBERS:
        names = {}
        exec(re.sub(r"scales = .*", f"scales = {{'bold': {number}}}", code), names)
        expected = dense(mixed, tmp_path, {"calm": 1 - number, "bold": number})
        torch.testing.assert_close(logits(names["model"]), expected, atol=2e-4, rtol=1e-4)


def test_the_formula_and_the_table_of_the_readme_are_the_coefficients(mixed, tmp_path):
    recipe = layout.of_file(soup_file.read(mixed / "soup.yaml"), "here")
    readme = exported(mixed, tmp_path / "out", "peft", str(mixed / "soup.yaml"))
    terms = re.search(r"scale of bold = (\S+) \* kind (\S+) \* brief", readme)
    for kind in np.linspace(0, 1, 11):
        expected = recipe.soup.coefficients([kind, 1 - kind])
        assert float(terms[1]) * kind + float(terms[2]) * (1 - kind) == pytest.approx(expected[1], abs=1e-5)
        row = re.search(rf"\| kind={kind:g} brief={1 - kind:g} \| (\S+) \|", readme)
        assert float(row[1]) == pytest.approx(expected[1], abs=1e-5)
        rows = np.array([list(row.values()) for row in ROWS.values()])
        np.testing.assert_allclose(rows.T @ expected, [kind, 1 - kind], atol=1e-12)


def test_free_weights_are_one_adapter_each_on_the_base_as_it_is(mixed, tmp_path, monkeypatch):
    readme = exported(mixed, tmp_path / "out", "peft", str(mixed / "free.yaml"))
    assert not (tmp_path / "out/base").exists()
    names = {}
    monkeypatch.chdir(tmp_path / "out")
    weights = {"calm": -0.4, "bold": 1.4, "odd": 0.5}
    exec(re.sub(r"scales = .*", f"scales = {weights}", block(readme, "python")), names)
    torch.testing.assert_close(logits(names["model"]), dense(mixed, tmp_path, weights), atol=2e-4, rtol=1e-4)


def test_vllm_gets_every_named_mixture_as_an_adapter(mixed, tmp_path):
    readme = exported(mixed, tmp_path / "out", "vllm", str(mixed / "soup.yaml"))
    named = {"gentle": (1.5, -0.5), "calm": (1, 0), "bold": (0, 1), "both": (1, 1)}
    command = shlex.split(block(readme, "bash"))
    modules = command[command.index("--lora-modules") + 1 :]
    assert modules == [f"{name}=adapters/{name}" for name in named]
    assert command[:3] == ["vllm", "serve", str(mixed / "base")]
    for name, (calm, bold) in named.items():
        model = PeftModel.from_pretrained(
            AutoModelForCausalLM.from_pretrained(mixed / "base"), tmp_path / "out/adapters" / name
        )
        expected = dense(mixed, tmp_path, {"calm": calm, "bold": bold})
        torch.testing.assert_close(logits(model), expected, atol=2e-4, rtol=1e-4)
        config = json.loads((tmp_path / "out/adapters" / name / "adapter_config.json").read_text())
        # For versions of vLLM that read no patterns: alpha / r has to be the scale of every module.
        assert config["r"] == config["lora_alpha"] <= int(command[command.index("--max-lora-rank") + 1])
    assert json.loads(shlex.split(block(readme, "bash", 1))[-1])["model"] == "gentle"


def test_llama_cpp_gets_a_base_and_what_is_left_to_scale(mixed, tmp_path):
    readme = exported(mixed, tmp_path / "out", "llama.cpp", str(mixed / "soup.yaml"))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["README.md", "base.gguf", "bold.gguf"]
    assert "--lora bold.gguf --lora-init-without-apply --cache-ram 0" in readme
    body = json.loads(shlex.split(block(readme, "bash", 1))[-1])
    assert body["lora"] == [{"id": 0, "scale": pytest.approx(-0.5)}]


@pytest.mark.parametrize("engine", ["vllm", "peft"])
def test_the_base_is_named_from_the_folder_in_which_its_line_is_run(mixed, tmp_path, monkeypatch, engine):
    monkeypatch.chdir(mixed)
    readme = exported(mixed, tmp_path / "out", engine, "--base", "base", "--adapter", "calm=calm")
    assert str(mixed / "base") in readme


def test_adapters_on_the_command_line(mixed, tmp_path):
    words = ["--base", str(mixed / "base"), "--adapter", f"odd={mixed / 'odd'}", "--adapter", f"calm={mixed / 'calm'}"]
    readme = exported(mixed, tmp_path / "out", "llama.cpp", *words)
    assert "`odd` has id 0, `calm` has id 1" in readme
    assert "--lora odd.gguf,calm.gguf" in readme


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--base", "b"], 2, "give a soup file, or --base with --adapter"),
        (["soup.yaml", "--base", "b", "--adapter", "a=b"], 2, "give a soup file"),
        (["soup.yaml", "--method", "bone"], 2, "--method chooses a soup of a run"),
        (["nowhere.yaml"], 1, "nowhere.yaml does not exist"),
    ],
)
def test_words_that_make_no_sense(tmp_path, words, code, message):
    done = CliRunner().invoke(app, ["export", "--for", "peft", "--out", str(tmp_path / "out"), *words])
    assert done.exit_code == code
    assert message in " ".join(f"{done.output} {done.exception}".split()).replace("│ ", "").replace(" │", "")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("write", [layout.lay_out, lambda recipe: vllm.write(recipe, None)], ids=["numbers", "vLLM"])
def test_a_policy_that_reads_the_preference_is_no_mixture_and_is_refused(mixed, write):
    file = soup_file.read(mixed / "soup.yaml")
    recipe = layout.of_file(file, "a test")
    with pytest.raises(ValueError, match="soup prompt is no mixture of adapters"):
        write(replace(recipe, soup=replace(recipe.soup, mapping="prompt", method="prompt")))
