"""A profile is the embedded default with changes, valid before anything is written."""

from pathlib import Path

import pytest
from pinned import made_up
from ruamel.yaml import YAML

from bonesoup.settings import params, profiles
from bonesoup.settings.derived import derived

ROOT = Path(__file__).parents[2]
read = YAML(typ="safe").load


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Make a folder of custom profiles next to the default."""
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
        entries = read(path.read_text())[section]
        assert list(entries) == list(overlay[section]), "replaced whole, nothing of the default left"
        for name, entry in overlay[section].items():
            assert entries[name] == entries[name] | entry


def left_out(raw, used, prefix: str = "") -> list[str]:
    """List keys of the settings in use that the file does not state."""
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
    reward = f"rewards.{raw['objectives'][0]}"
    assert left_out(raw, used) == [f"{reward}.revision", f"{reward}.convert_bin", "rl.lora.targets"]


def test_writing_the_default_gives_params_yaml_back(tmp_path):
    profiles.write("embedded", path=tmp_path / "params.yaml")
    assert read((tmp_path / "params.yaml").read_text()) == read((ROOT / "params.yaml").read_text())


def test_sections_merge_key_by_key_and_named_entries_are_replaced(folder):
    changes = [
        "rl: {lora: {rank: 2}}",
        "preferences: {even: {helpful: 0.5, harmless: 0.5}}",
        "register: {merged: [even]}",
    ]
    (folder / "mine.yaml").write_text("\n".join(changes))
    document = profiles.compose("mine")
    assert document["rl"]["lora"] == {"rank": 2, "alpha": 16, "dropout": 0.0, "targets": "all-linear"}
    assert document["rl"]["steps"] == profiles.compose(profiles.DEFAULT)["rl"]["steps"]
    assert list(document["preferences"]) == ["even"]


def test_the_heading_says_which_profile_it_is(folder, tmp_path):
    (folder / "mine.yaml").write_text("# Mine, for a test.\nseed: 3\n")
    profiles.write("mine", path=tmp_path / "params.yaml")
    assert (tmp_path / "params.yaml").read_text().startswith("# Mine, for a test.\n")


def test_data_replaces_the_profiles_own_file(tmp_path):
    rows = tmp_path / "rows.jsonl"
    rows.touch()
    assert profiles.compose("qa-feedback", str(rows))["data"]["path"] == str(rows)


def test_data_that_does_not_exist_is_refused_at_once_and_nothing_is_written(tmp_path):
    target = tmp_path / "params.yaml"
    with pytest.raises(ValueError, match="--data elsewhere/rows.jsonl: no such file"):
        profiles.write("qa-feedback", "elsewhere/rows.jsonl", path=target)
    assert not target.exists()


def test_every_file_of_a_folder_with_one_for_each_objective_must_be_there(tmp_path):
    helpful, harmless = (tmp_path / f"{name}-base.jsonl.gz" for name in ("helpful", "harmless"))
    helpful.touch()
    with pytest.raises(ValueError, match=f"a folder with a file for each of helpful, harmless, and {harmless} is no"):
        profiles.compose("smollm2-hh-both", str(tmp_path))
    with pytest.raises(ValueError, match=f"and {helpful}/helpful-base.jsonl.gz is no file"):
        profiles.compose("smollm2-hh-both", str(helpful))
    harmless.touch()
    assert profiles.compose("smollm2-hh-both", str(tmp_path))["data"]["path"] == str(tmp_path)
    with pytest.raises(ValueError, match=f"--data {tmp_path}: expected a file"):
        profiles.compose("qa-feedback", str(tmp_path))


def test_methods_that_cannot_be_registered_are_not_offered():
    with pytest.raises(
        ValueError,
        match="register.method: auto has nothing to choose from; none of them can be registered: add rewarded or bone",
    ):
        profiles.compose("quick", changes={"methods": ["sft", "prompt"]})


def test_what_follows_from_the_rest_is_in_no_profile_and_in_every_params_file(tmp_path):
    for name in profiles.names():
        stated = read((ROOT / f"profiles/{name}.yaml").read_text())
        assert not [group for group in stated.get("policies", {}).values() if group], "slots"
        assert not [reward for reward in stated.get("rewards", {}).values() if "source" in reward]
        assert stated.get("seek", {}).get("betas", []) == [
            beta for beta in stated.get("seek", {}).get("betas", []) if beta != stated["basis"]["beta"]
        ]
        written = profiles.plain(profiles.compose(name, changes=made_up(name)))
        follows = derived(written)
        if "policies" in stated:
            del follows["policies"]
        stands = flat(written)
        assert {key: stands[key] for key in follows} == follows


def flat(section: dict, prefix: str = "") -> dict:
    leaves = {}
    for key, value in section.items():
        leaves[prefix + key] = value
        if isinstance(value, dict):
            leaves |= flat(value, f"{prefix}{key}.")
    return leaves


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Write the default to a params.yaml that commands can change."""
    monkeypatch.setattr(params, "PARAMS", tmp_path / "params.yaml")

    def change(**changes) -> dict:
        changes = {key.replace("__", "."): value for key, value in changes.items()}
        profiles.write(None if changes else "embedded", changes=changes or None, path=params.PARAMS)
        return read(params.PARAMS.read_text())

    change()
    return change


def test_a_change_brings_what_follows_from_it(written):
    document = written(methods=["sft", "bone"], basis__beta=0.8)
    assert document["policies"] == {"backbones": {"slots": ["backbone-1", "backbone-2"]}}
    assert written(seek__betas=[0.6])["seek"]["betas"] == [0.6, 0.8]
    assert written(seek__betas=[0.6], basis__beta="auto")["seek"]["betas"] == [0.6, 0.7]
    assert written(seek__betas=[0.6], basis__beta=0.8)["seek"]["betas"] == [0.6, 0.8]
    assert written(extrapolation__scales=[1.5])["extrapolation"]["scales"] == [1.0, 1.5]
    rows = [[0.8, 0.2], [0.2, 0.8], [0.5, 0.5]]
    document = written(seek__betas=[], basis={"kind": "rows", "beta": 0.8, "rows": rows})
    assert document["policies"]["backbones"]["slots"] == ["backbone-1", "backbone-2", "backbone-3"]


def test_a_grouping_that_a_person_chose_stays(written):
    mine = {"a": {"slots": ["backbone-2", "specialist-1"]}, "b": {"slots": ["backbone-1", "specialist-2"]}}
    assert written(methods=["rewarded", "bone"], policies=mine)["policies"] == mine
    assert written(rl__steps=10)["policies"] == mine
    with pytest.raises(ValueError, match="no group trains oracle-1.* or remove `policies`"):
        written(methods=["rewarded", "bone", "oracle"])


def test_a_group_that_names_its_slots_gets_them(written):
    groups = {"backbone-1": {}, "backbone-2": {}, "specialists": {}}
    document = written(methods=["rewarded", "bone"], policies=groups)
    assert document["policies"] == {
        "backbone-1": {"slots": ["backbone-1"]},
        "backbone-2": {"slots": ["backbone-2"]},
        "specialists": {"slots": ["specialist-1", "specialist-2"]},
    }


def test_a_file_of_an_older_version_gets_the_defaults_of_what_is_new(written):
    before = params.PARAMS.read_text()
    old = before.replace(", distribution: interior", "").replace(" samples: 256, merged", " merged")
    params.PARAMS.write_text(old)
    assert profiles.write(None, path=params.PARAMS) == ["basis.distribution", "register.samples"]
    assert read(params.PARAMS.read_text()) == read(before)
    assert (
        written(basis={"kind": "rows", "beta": 0.7, "rows": [[0.9, 0.1], [0.2, 0.8]]})["basis"]["distribution"]
        == "interior"
    )


def test_the_file_of_a_function_is_found(written):
    reward = {"kind": "function", "function": "bonesoup.rewards.brevity:brevity"}
    document = written(rewards={"helpful": reward, "harmless": reward})
    assert document["rewards"]["helpful"]["source"] == "src/bonesoup/rewards/brevity.py"


def test_comments_and_order_of_the_file_stay(written):
    before = params.PARAMS.read_text()
    written(rl__steps=61)
    assert params.PARAMS.read_text() == before.replace("steps: 60", "steps: 61")


def test_a_single_objective_is_reported_as_such():
    """Nothing can be derived from it, and the check says why."""
    with pytest.raises(ValueError, match="objectives: List should have at least 2 items"):
        profiles.compose("embedded", changes={"objectives": ["helpful"]})


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
def test_a_wrong_profile_is_named_and_writes_nothing(folder, tmp_path, text, reason):
    (folder / "wrong.yaml").write_text(text)
    target = tmp_path / "written.yaml"
    target.write_text("schema: 1\n")
    with pytest.raises(ValueError, match="profile") as caught:
        profiles.write("wrong", path=target)
    assert "wrong" in str(caught.value)
    assert reason in str(caught.value)
    assert target.read_text() == "schema: 1\n"
