"""The policy stage: whatever affects an adapter changes its fingerprint, and each row is trained once."""

from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from pinned import default

from bonesoup.evaluation.costs import training_costs
from bonesoup.files import file_digest, read_json, read_jsonl, write_json
from bonesoup.generation.soup import Soup, SoupModel
from bonesoup.paths import METRICS, NORMALISER, POLICIES, PROMPTS, RECIPES, REWARDS, ROWS, SCRATCH, SFT
from bonesoup.settings import params
from bonesoup.stages import policy, soup
from bonesoup.training import rows as training_rows
from bonesoup.training.scratch import scratch
from bonesoup.training.task import Collapse

SOURCE = "src/bonesoup/rewards/brevity.py"


@pytest.fixture
def repository(request) -> Path:
    return request.config.rootpath


def settings(repository: Path, **rl):
    raw = default()
    raw["rl"] |= {"steps": 2, "prompts": 2, "generations": 2, "micro_batch": 4, "lora": raw["rl"]["lora"] | {"rank": 2}}
    raw["rl"] |= rl
    return params.check(raw)


def plan(rows: dict, steps: int = 2, **starts) -> dict:
    """Write a group's file as the stage `basis` does."""
    return {"slots": rows, "steps": dict.fromkeys(rows, steps), "starts": starts, "together": [], "reads": {}}


def test_a_policy_starts_from_the_soup_of_others_and_each_has_its_schedule(staged, repository):
    rows = {"curve-1": [1.0, 0.0], "curve-2": [0.0, 1.0], "curve-3": [0.5, 0.5]}
    written = plan(rows, steps=2, **{"curve-3": ["curve-1", "curve-2"]})
    written["steps"]["curve-3"] = 1
    write_json(ROWS / "curves.json", written)
    policy.run(settings(repository), "curves")
    logs = {slot: read_jsonl(POLICIES / "curves" / slot / "steps.jsonl") for slot in rows}
    assert {slot: len(log) for slot, log in logs.items()} == {"curve-1": 2, "curve-2": 2, "curve-3": 1}
    facts = read_json(POLICIES / "curves/curve-3/policy.json")
    assert (facts["start"], facts["steps"], facts["row"]) == (["curve-1", "curve-2"], 1, [0.5, 0.5])
    # Its own reward leaves the start behind: the divergence from SFT is a reward of its own.
    assert "reward/drift" in logs["curve-3"][0]
    assert (POLICIES / "curves/curve-3/adapter_model.safetensors").is_file()


def test_adapters_that_are_mixed_in_training_share_every_step(staged, repository):
    rows = {"clp-1": [1.0, 0.0], "clp-2": [0.0, 1.0]}
    write_json(ROWS / "clps.json", plan(rows, steps=3) | {"together": [list(rows)]})
    policy.run(settings(repository), "clps")
    facts = [read_json(POLICIES / "clps" / slot / "policy.json") for slot in rows]
    assert [(one["row"], one["steps"], one["together"]) for one in facts] == [
        (row, 3, ["clp-1", "clp-2"]) for row in rows.values()
    ]
    assert facts[0]["fingerprint"] == facts[1]["fingerprint"]
    assert training_costs(facts, settings(repository).rl) == {"policies": 2, "updates": 3, "scored": 12}
    digests = {file_digest(POLICIES / "clps" / slot / "adapter_model.safetensors") for slot in rows}
    assert len(digests) == 2


def test_a_policy_that_reads_the_preference_comes_with_its_base(staged, repository):
    made = {}
    for slot, reads in (("prompt-1", "own"), ("shuffled-1", "others")):
        write_json(ROWS / "readers.json", plan({slot: [0.5, 0.5]}, steps=3) | {"reads": {slot: reads}})
        policy.run(settings(repository), "readers")
        place = POLICIES / "readers" / slot
        facts = read_json(place / "policy.json")
        assert (facts["steps"], facts["row"]) == (3, [0.5, 0.5])
        assert {"model.safetensors", "tokenizer.json"} <= {path.name for path in (place / "base").iterdir()}
        made[slot] = facts["fingerprint"], file_digest(place / "adapter_model.safetensors"), file_digest(place / "base")
    own, others = made.values()
    assert own[:2] != others[:2]
    assert own[2] == others[2]


def test_the_recipe_of_a_policy_that_reads_the_preference_asks_it_on_its_base(staged, repository):
    raw = settings(repository, steps=1, warmup_steps=0).model_dump(by_alias=True)
    raw |= {"methods": ["rewarded", "prompt"], "oracles": [], "register": raw["register"] | {"method": "rewarded"}}
    raw["policies"] = {"specialists": {"slots": ["specialist-1", "specialist-2"]}, "prompts": {"slots": ["prompt-1"]}}
    chosen = params.check(raw)
    write_json(METRICS / "basis.json", {"rows": [[0.7, 0.3], [0.3, 0.7]]})
    write_json(ROWS / "specialists.json", plan({"specialist-1": [1.0, 0.0], "specialist-2": [0.0, 1.0]}, steps=1))
    write_json(ROWS / "prompts.json", plan({"prompt-1": [0.5, 0.5]}, steps=1) | {"reads": {"prompt-1": "own"}})
    for group in chosen.policies:
        policy.run(chosen, group)
    soup.run(chosen, None)
    recipe = Soup.read(RECIPES / "prompt.json")
    assert (recipe.base, recipe.reference) == (POLICIES / "prompts/prompt-1/base", SFT)
    assert recipe.contexts([[0.0, 1.0]]) == ["<helpful:-3.0><harmless:+3.0>"]
    assert Soup.read(RECIPES / "rewarded.json").contexts([[0.0, 1.0]]) == []
    np.testing.assert_array_equal(recipe.coefficients([0.2, 0.8]), [1])
    SoupModel.load(recipe)


def test_equal_rows_are_trained_once_and_others_are_not_mixed_up(staged, repository, capfd):
    rows = {"specialist-1": [1.0, 0.0], "oracle-1": [0.3, 0.7], "oracle-2": [1.0, 0.0]}
    write_json(ROWS / "oracles.json", plan(rows))
    policy.run(settings(repository), "oracles")
    adapter = {slot: file_digest(POLICIES / "oracles" / slot / "adapter_model.safetensors") for slot in rows}
    assert adapter["specialist-1"] == adapter["oracle-2"] != adapter["oracle-1"]
    assert "oracle-2: row [1.0, 0.0] is trained already" in capfd.readouterr().out
    facts = read_json(POLICIES / "oracles/oracle-2/policy.json")
    assert facts["row"] == [1.0, 0.0]


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"limits": {"kl": 7, "entropy": 0.0}}, True),
        ({"checkpoint_every": 1}, True),
        ({"kl": 0.2}, False),
        ({"learning_rate": 0.001}, False),
    ],
)
def test_what_decides_a_result_decides_the_fingerprint(staged, repository, change, same):
    assert (training_rows.inputs(settings(repository)) == training_rows.inputs(settings(repository, **change))) == same


@pytest.mark.parametrize("path", [NORMALISER, PROMPTS, REWARDS / "harmless/reward.json"])
def test_a_changed_input_file_changes_the_fingerprint(staged, repository, path):
    before = training_rows.inputs(settings(repository))
    path.write_text(path.read_text() + " ")
    assert training_rows.inputs(settings(repository)) != before


def test_slots_of_a_group_start_from_the_same_adapter(staged, repository):
    """One seed for all rows: differences between policies are due to their rewards."""
    write_json(ROWS / "g.json", plan({"a": [1.0, 0.0], "b": [0.0, 1.0]}, steps=1))
    policy.run(settings(repository, steps=1, warmup_steps=1), "g")
    # With one step of warm-up the learning rate of step 1 is zero: both adapters are still the initial one.
    logs = [(POLICIES / "g" / slot / "steps.jsonl").read_text() for slot in "ab"]
    digests = {file_digest(POLICIES / "g" / slot / "adapter_model.safetensors") for slot in "ab"}
    assert len(digests) == 1
    assert np.all([log.count("\n") == 1 for log in logs])


def test_rows_that_another_process_trains_are_left_to_it_until_nothing_else_is_to_do(staged):
    with scratch("busy"), ExitStack() as held:
        assert list(training_rows._take(held, ["busy", "free"])) == ["free"]
    with ExitStack() as held:
        assert list(training_rows._take(held, ["busy", "free"])) == ["busy", "free"]


def test_a_policy_that_collapses_is_named_once_the_others_are_trained(staged, repository, monkeypatch):
    def check(name, step, limits):
        if name == "b":
            raise Collapse("b collapsed at step 1")

    monkeypatch.setattr("bonesoup.training.learner.check_step", check)
    write_json(ROWS / "g.json", plan({"a": [1.0, 0.0], "b": [0.0, 1.0]}))
    with pytest.raises(Collapse, match="^b collapsed at step 1$"):
        policy.run(settings(repository), "g")
    assert not (POLICIES / "g").exists()
    assert len(list(SCRATCH.glob("policies/*/adapter"))) == 1


@pytest.mark.parametrize("trainer", ["joint", "TRL"])
def test_policies_that_do_not_train_with_a_collapsed_one_are_trained_too(staged, repository, monkeypatch, trainer):
    """Those of another length in a step of their own, and under TRL each in turn."""

    def check(name, step, limits):
        if name.startswith("bad"):
            raise Collapse(f"{name} collapsed at step 1")

    module = {"joint": "learner", "TRL": "rloo"}[trainer]
    monkeypatch.setattr(f"bonesoup.training.{module}.check_step", check)
    monkeypatch.setattr(training_rows, "by_trl", lambda settings: trainer == "TRL")
    written = plan({"bad-1": [1.0, 0.0], "good": [0.0, 1.0], "bad-2": [0.5, 0.5]})
    written["steps"]["bad-1"] = 3
    write_json(ROWS / "g.json", written)
    with pytest.raises(Collapse, match="^bad-1 collapsed at step 1\nbad-2 collapsed at step 1$"):
        policy.run(settings(repository), "g")
    (adapter,) = SCRATCH.glob("policies/*/adapter")
    assert len(read_jsonl(adapter / "steps.jsonl")) == 2
