"""docs/settings.md and docs/cli.md say what the code says, and every key, rule and command is in them."""

import copy
import importlib.util
import re
from pathlib import Path

import pytest
import typer
from pinned import default
from ruamel.yaml import YAML

from bonesoup.cli.main import app
from bonesoup.settings import params

ROOT = Path(__file__).parents[2]
EMBEDDED = default()


@pytest.fixture(scope="module")
def generate():
    spec = importlib.util.spec_from_file_location("docs_generate", ROOT / "docs/generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_generated_pages_are_up_to_date(generate):
    assert generate.stale() == [], "run `make docs`"


def test_check_notices_a_changed_page(generate, tmp_path, monkeypatch):
    page = tmp_path / "cli.md"
    page.write_text(generate.cli_page() + "\n")
    monkeypatch.setattr(generate, "PAGES", {page: generate.cli_page})
    assert generate.stale() == []
    page.write_text(page.read_text().replace("bonesoup run", "bonesoup walk"))
    assert generate.stale() == ["cli.md"]
    monkeypatch.setattr("sys.argv", ["generate.py", "--check"])
    with pytest.raises(SystemExit, match=r"cli\.md: out of date"):
        generate.main()


def leaves(value, prefix: str = "") -> list[str]:
    """List dotted names of the values of a params file, with names of the user's choice as <name>."""
    if not isinstance(value, dict):
        return [prefix]
    free = {"policies": "<name>", "rewards": "<objective>", "data.files": "<name>"}.get(prefix)
    names = [(key, f"{prefix}.{free or key}" if prefix else key) for key in value]
    # Mappings with free names whose values are no sections: one key in the table.
    whole = {"preferences", "estimate.matrices", "estimate.rewards"}
    return [leaf for key, name in names for leaf in ([name] if name in whole else leaves(value[key], name))]


@pytest.mark.parametrize("profile", sorted(path.stem for path in (ROOT / "profiles").glob("*.yaml")))
def test_every_key_that_a_profile_sets_is_in_the_table(generate, profile):
    documented = set(re.findall(r"^\| `([^`]+)`", generate.settings_page(), re.MULTILINE))
    used = set(leaves(YAML(typ="safe").load((ROOT / f"profiles/{profile}.yaml").read_text())))
    # An optional section may be set to null as a whole.
    assert used <= documented


def test_no_description_is_missing(generate):
    rows = [line.split(" | ") for line in generate.settings_page().splitlines() if line.startswith("| `")]
    keys = [row for row in rows if len(row) == 5]
    assert len(keys) > 60
    assert [row[0] for row in keys if not row[4].rstrip(" |")] == []


def test_every_command_is_described_with_an_example(generate):
    page = generate.cli_page()
    for name in typer.main.get_command(app).commands:
        section = page.split(f"\n## bonesoup {name}\n")[1].split("\n## ")[0]
        assert re.search(rf"```bash\n.*bonesoup {name}\b", section), name


def changed(path: str, value) -> dict:
    settings = copy.deepcopy(EMBEDDED)
    *way, last = path.split(".")
    inner = settings
    for key in way:
        inner = inner[key]
    inner[last] = value
    return settings


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("objectives", ["helpful", "helpful"], "repeats a name"),
        ("objectives", ["helpful", "kind"], "rewards.kind: missing"),
        ("basis.beta", 0.5, r"must be in \(1/2, 1\]"),
        ("preferences.balanced", {"helpful": 0.5, "harmless": 0.6}, "sum to 1.1"),
        ("oracles", [[0.25, 0.75]], "not on the evaluation grid"),
        ("oracles", [[0.5, 0.5], [0.5, 0.5]], "repeats oracles.1"),
        ("register.merged", ["nobody"], "no named preference"),
        ("policies.backbones", {"slots": ["backbone-1"]}, "no group trains backbone-2"),
        ("policies.more", {"slots": ["backbone-3"]}, "unknown slot backbone-3"),
        ("rl.micro_batch", 100, "does not divide"),
        ("rl.lora.dropout", 0.5, "RLOO switches dropout off"),
        ("data.test", 0.9, "leave nothing to train on"),
        ("data.sizes", None, "the embedded source needs it"),
        ("data.hub", "somebody/something", "data.revision: .*somebody/something"),
        ("model.source", "somebody/something", "model.revision: .*needs the commit"),
        ("data.labels", ["helpful", "helpful"], "repeats a name"),
        ("data.labels", ["helpful"], "only for names in data.labels: add harmless"),
        ("data.source", "qa-feedback", "(?s)no labels for helpful.*pairs do not fit"),
        ("data.source", "hh-rlhf", "trains one reward"),
        ("rewards.helpful.source", "elsewhere.jsonl", "must be out/data/rewards/helpful.jsonl"),
        (
            "rewards.helpful",
            {"kind": "pretrained", "model": "m", "input": "unknown", "logit": 0, "source": "s"},
            "(?s)rewards.helpful.revision: .*needs the commit.*are unknown",
        ),
    ],
)
def test_the_rules_on_the_settings_page_are_enforced(path, value, said):
    params.check(EMBEDDED)
    with pytest.raises(ValueError, match=said):
        params.check(changed(path, value))


def test_a_block_is_filled_again_and_again(generate):
    text = "a\n<!-- t:begin -->\nold\n<!-- t:end -->\nb\n"
    once = generate.fill(text, "t", "| new |\n")
    assert once == "a\n<!-- t:begin -->\n| new |\n<!-- t:end -->\nb\n"
    assert generate.fill(once, "t", "| new |") == once
    with pytest.raises(ValueError, match="no block <!-- u:begin -->"):
        generate.fill(text, "u", "x")


def test_the_table_of_stage_times_ends_with_their_sum(generate):
    rows = {"sft": {"seconds": 5, "peak_mb": 7}, "report": {"seconds": 2, "peak_mb": 3}}
    table = generate.stage_times(rows).splitlines()
    assert "| `sft` | 5.0 | 7 |" in table
    assert table[-1] == "| sum | 7 | |"


def test_measured_numbers_land_in_the_documents(generate):
    covered = {
        "finding": "Bone Soup wins.",
        "references": [-1.0],
        "interior": 0.2,
        "confidence": 0.95,
        "bootstrap": 10,
        "prompts": 4,
        "grids": {"full_grid": {"points": 3, "gold": unit(2.0), "reward": unit(9.0)}},
    }
    table = generate.markdown_main(covered)
    assert "| Bone Soup | 2.000 ± 1.000 |" in table
    assert "↳ vs Rewarded Soup | +0.500 ± 0.100 |" in table
    assert "9.000" not in table
    assert "Bone Soup wins." in table


def unit(value: float) -> dict:
    metric = {"inner_product": {"value": value, "low": value - 1, "high": value + 1}}
    gap = {"inner_product": {"value": 0.5, "low": 0.4, "high": 0.6}}
    return {
        "methods": {"rewarded": metric, "bone": metric},
        "difference_to_rewarded": {"bone": gap},
        "ratio_to_rewarded": {"bone": {}},
    }


@pytest.mark.parametrize(
    ("page", "blocks"),
    [
        ("README.md", ["table"]),
        ("docs/running.md", ["stages"]),
        ("docs/results.md", ["embedded", "embedded-3", "qa-feedback", "hh-harmless"]),
    ],
)
def test_the_blocks_to_fill_exist(generate, page, blocks):
    text = (ROOT / page).read_text()
    for block in blocks:
        assert generate.fill(text, block, "x") != text
