"""A profile is the embedded default with changes, valid before anything is written."""

from pathlib import Path

import pytest
from pinned import made_up
from ruamel.yaml import YAML

from bonesoup.settings import params, profiles

ROOT = Path(__file__).parents[2]
read = YAML(typ="safe").load


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A folder of profiles of our own, beside the default."""
    (tmp_path / "embedded.yaml").write_bytes((ROOT / "profiles/embedded.yaml").read_bytes())
    monkeypatch.setattr(profiles, "PROFILES", tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", profiles.names() or sorted(p.stem for p in (ROOT / "profiles").glob("*.yaml")))
def test_a_written_profile_reads_back_as_valid_settings(name, tmp_path):
    path = tmp_path / "params.yaml"
    profiles.write(name, changes=made_up(name), path=path)
    written = params.load(path)
    assert written == params.check(profiles.plain(profiles.compose(name, changes=made_up(name))))
    overlay = read((ROOT / f"profiles/{name}.yaml").read_text())
    for objective in overlay.get("rewards", {}):
        if commit := made_up(name).get(f"rewards.{objective}.revision"):
            overlay["rewards"][objective]["revision"] = commit
    for section in set(overlay) & profiles.WHOLE:
        assert read(path.read_text())[section] == overlay[section], "replaced whole, nothing of the default left"


def left_out(raw, used, prefix: str = "") -> list[str]:
    """Keys of the settings in use that the file does not state."""
    if isinstance(used, dict):
        missing = [f"{prefix}{key}" for key in used if key not in raw]
        shared = [(raw[key], used[key], f"{prefix}{key}.") for key in used if key in raw]
    elif isinstance(used, list | tuple):
        missing, shared = [], [(a, b, f"{prefix}{k}.") for k, (a, b) in enumerate(zip(raw, used, strict=True))]
    else:
        return []
    return missing + [key for pair in shared for key in left_out(*pair)]


@pytest.mark.parametrize("name", sorted(p.stem for p in (ROOT / "profiles").glob("*.yaml")))
def test_no_value_of_a_profile_is_a_default_of_the_code(name):
    """DVC compares params.yaml only: a default that changes in config.py would re-run nothing."""
    raw = profiles.plain(profiles.compose(name, changes=made_up(name)))
    assert left_out(raw, params.check(raw).model_dump(by_alias=True)) == []
    del raw["rl"]["lora"]["targets"]
    raw["rewards"][raw["objectives"][0]] = {
        "kind": "pretrained", "model": ".", "input": "chat", "logit": 0, "source": "x"
    }  # fmt: skip
    used = params.check(raw).model_dump(by_alias=True)
    own = f"rewards.{raw['objectives'][0]}"
    assert left_out(raw, used) == [f"{own}.revision", f"{own}.convert_bin", "rl.lora.targets"]


def test_writing_the_default_gives_params_yaml_back(tmp_path):
    profiles.write("embedded", path=tmp_path / "params.yaml")
    assert read((tmp_path / "params.yaml").read_text()) == read((ROOT / "params.yaml").read_text())


def test_sections_merge_key_by_key_and_named_entries_are_replaced(own):
    changes = [
        "rl: {lora: {rank: 2}}",
        "preferences: {even: {helpful: 0.5, harmless: 0.5}}",
        "register: {merged: [even]}",
    ]
    (own / "mine.yaml").write_text("\n".join(changes))
    document = profiles.compose("mine")
    assert document["rl"]["lora"] == {"rank": 2, "alpha": 16, "dropout": 0.0, "targets": "all-linear"}
    assert document["rl"]["steps"] == profiles.compose(profiles.DEFAULT)["rl"]["steps"]
    assert list(document["preferences"]) == ["even"]


def test_the_heading_says_which_profile_it_is(own, tmp_path):
    (own / "mine.yaml").write_text("# Mine, for a test.\nseed: 3\n")
    profiles.write("mine", path=tmp_path / "params.yaml")
    assert (tmp_path / "params.yaml").read_text().startswith("# Mine, for a test.\n")


def test_data_replaces_the_profiles_own_file():
    assert profiles.compose("qa-feedback", "elsewhere/rows.jsonl")["data"]["path"] == "elsewhere/rows.jsonl"


def test_an_unknown_profile_lists_the_known_ones():
    with pytest.raises(ValueError, match="no profile 'embeded'; there are: .*embedded"):
        profiles.compose("embeded")


@pytest.mark.parametrize("name", ["../params", "", "embedded.yaml"])
def test_a_name_is_no_path(name):
    with pytest.raises(ValueError, match="no profile"):
        profiles.compose(name)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("basis: {beta: 0.1}\n", "basis.beta"),
        ("sede: 1\n", "sede"),
        ("a: [\n", "YAML"),
        ("", "mapping"),
        ("- 1\n", "mapping"),
    ],
)
def test_a_wrong_profile_is_named_and_writes_nothing(own, tmp_path, text, reason):
    (own / "wrong.yaml").write_text(text)
    target = tmp_path / "written.yaml"
    target.write_text("schema: 1\n")
    with pytest.raises(ValueError, match="profile") as caught:
        profiles.write("wrong", path=target)
    assert "wrong" in str(caught.value)
    assert reason in str(caught.value)
    assert target.read_text() == "schema: 1\n"
