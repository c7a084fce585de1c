"""Wrong settings are named by their keys, and all of them are reported at once."""

import contextlib
import copy
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pinned import default

from bonesoup.method.preferences import preference_faults
from bonesoup.settings import params, schema

ROOT = Path(__file__).parents[2]
DEFAULT = default()

PRETRAINED = {"kind": "pretrained", "model": "owner/judge", "input": "unknown", "logit": 0, "source": "pairs.jsonl"}


LABELLED = DEFAULT["rewards"]["helpful"] | {"kind": "labels", "loss": "regression"}


def changed(path: str, value) -> dict:
    """Return the default settings with one key set (or removed, for ...)."""
    raw = copy.deepcopy(DEFAULT)
    *outer, last = path.split(".")
    section = raw
    for key in outer:
        section = section[key]
    if value is ...:
        del section[last]
    else:
        section[last] = value
    return raw


def refused(raw) -> str:
    with pytest.raises(ValueError, match="^params") as caught:
        params.check(raw)
    return str(caught.value)


def faults(raw) -> list[str]:
    first, *rest = refused(raw).splitlines()
    assert first == f"params has {len(rest)} fault{'s' * (len(rest) > 1)}:"
    return [line.removeprefix("  - ") for line in rest]


def test_the_default_is_valid():
    assert params.check(copy.deepcopy(DEFAULT)).basis.beta == 0.7


@pytest.mark.parametrize(
    ("path", "value", "fault"),
    [
        ("sead", 1, "sead: unknown key"),
        ("rl.lora.rnak", 8, "rl.lora.rnak: unknown key"),
        ("seed", ..., "seed: missing"),
        ("rl.steps", 0, "rl.steps: Input should be greater than 0, found 0"),
        ("rl.steps", "many", "rl.steps: Input should be a valid integer, found 'many'"),
        ("rl.learning_rate", math.nan, "rl.learning_rate: Input should be"),
        ("device", "tpu", "device: Input should be 'cpu' or 'cuda', found 'tpu'"),
        ("objectives", ["helpful"], "objectives: List should have at least 2 items"),
        ("objectives", ["helpful", "helpful"], "objectives: ['helpful', 'helpful'] repeats a name"),
        ("basis.beta", 0.5, "basis.beta: must be in (1/2, 1] for 2 objectives, found 0.5"),
        ("basis.beta", 1.01, "basis.beta: must be in (1/2, 1] for 2 objectives, found 1.01"),
        ("basis.beta", math.nan, "basis.beta: must be in (1/2, 1] for 2 objectives, found nan"),
        ("basis.beta", -math.inf, "basis.beta: must be in (1/2, 1]"),
        ("basis.beta", "big", "basis.beta: Input should be a valid number"),
        ("basis.beta", 0.52, "basis.beta: the coefficients reach an L1 norm of 25"),
        ("basis.distribution", {"dirichlet": 0}, "basis.distribution.dirichlet: Input should be greater than 0"),
        ("basis.distribution", "normal", "basis.distribution: Input should be 'interior' or 'uniform', found 'normal'"),
        ("seek.betas", [0.7, 0.51], "seek.betas.2: the coefficients reach an L1 norm of 50"),
        ("seek.betas", [0.6, 0.8], "seek.betas: [0.6, 0.8] must hold basis.beta = 0.7"),
        ("seek.betas", [0.7, 0.4], "seek.betas.2: must be in (1/2, 1] for 2 objectives, found 0.4"),
        ("seek.betas", [0.7, 0.7], "seek.betas: [0.7, 0.7] repeats a value"),
        ("methods", ["sft", "bone", "bone"], "methods: bone is listed twice"),
        ("methods", ["sft"], "methods: sft train no policy: add rewarded or bone"),
        (
            "extrapolation.scales",
            [1.25],
            "extrapolation.scales: [1.25] must hold 1, no scaling; `bonesoup",
        ),
        ("basis", {"kind": "rows", "beta": 0.7, "rows": [[1, 0]]}, "basis.rows: 1 policies cannot reach every"),
        ("basis", {"kind": "rows", "beta": 0.7, "rows": None}, "basis.rows:"),
        ("basis", {"kind": "rows", "beta": 0.7, "rows": [[1, 0], [2, 0]]}, "basis.rows: the rows are singular"),
        ("basis", {"kind": "rows", "beta": 0.7, "rows": [[1, 0], [1]]}, "basis.rows: every row needs 2 weights"),
        (
            "basis",
            {"kind": "rows", "beta": 0.7, "rows": [[0.8, 0.2], [0.2, 0.8], [0.5, 0.5]]},
            "policies: no group trains backbone-3",
        ),
        ("data.labels", ["helpful"], "rewards.harmless.source: prepare makes this file only for names in data.labels"),
        ("data.labels", ["helpful", "harmless", "wit"], "data.labels: the embedded source has no labels for wit"),
        ("data.labels", ["helpful", "harmless", "helpful"], "data.labels: ['helpful', 'harmless', 'helpful'] repeats"),
        ("data.source", "hh-rlhf", "rewards: a hh-rlhf file states one preference, so it trains one reward, not hel"),
        ("data.source", "qa-feedback", "rewards.helpful.kind: the qa-feedback source gives labelled responses"),
        ("data.source", "qa-feedback", "data.labels: the qa-feedback source has no labels for helpful"),
        ("rewards.helpful", LABELLED, "rewards.helpful.kind: the embedded source gives preference pairs, labels do"),
        ("rewards.humor", DEFAULT["rewards"]["helpful"], "rewards.humor: not among objectives"),
        ("rewards.helpful", ..., "rewards.helpful: missing"),
        ("rewards.helpful.kind", "guess", "rewards.helpful: Input tag 'guess' found"),
        ("rewards.helpful.source", "pairs.jsonl", "rewards.helpful.source: must be out/data/rewards/helpful.jsonl"),
        ("preferences.odd", {"helpful": 0.7, "harmless": 0.7}, "preferences.odd: weights sum to 1.4, not 1"),
        ("preferences.odd", {"helpful": 1.5, "harmless": -0.5}, "preferences.odd: weights must be finite and not neg"),
        ("preferences.odd", {"helpful": math.nan, "harmless": 1}, "preferences.odd: weights must be finite"),
        ("preferences.odd", {"helpful": 1}, "preferences.odd: no weight for harmless"),
        ("preferences.odd", {"helpful": 0.5, "harmless": 0.5, "fun": 0}, "preferences.odd: unknown objectives fun"),
        ("register.method", "lattice", "register.method: lattice is not among methods: add it, or register bone"),
        ("register.method", "mod", "register.method: Input should be 'auto', 'rewarded', 'bone', "),
        ("register.merged", ["evn"], "register.merged: 'evn' is no named preference"),
        ("oracles", [[0.5, 0.4]], "oracles.1: weights sum to 0.9, not 1"),
        ("oracles", [[0.5, 0.25, 0.25]], "oracles.1: has 3 weights for 2 objectives"),
        ("oracles", [[0.55, 0.45]], "oracles.1: [0.55, 0.45] is not on the evaluation grid of 10 parts"),
        ("oracles", [[0.5, 0.5], [1, 0], [0.5, 0.5]], "oracles.3: [0.5, 0.5] repeats oracles.1"),
        ("policies.backbones.slots", ["backbone-1", "backbone-3"], "policies: unknown slot backbone-3"),
        ("policies.backbones.slots", ["backbone-1"], "policies: no group trains backbone-2; add {slots: [backbone-2]}"),
        ("policies.more", {"slots": ["backbone-1"]}, "policies: slot backbone-1 is listed twice"),
        (
            "methods",
            ["bone", "magic"],
            "methods.1: Input should be 'sft', 'rewarded', 'bone', 'lattice', 'piecewise', 'least-norm', 'curved', "
            "'unmapped', 'mod', 'clp', 'prompt', 'shuffled', 'ric' or 'oracle'",
        ),
        ("ric.keep", 1.5, "ric.keep: Input should be less than or equal to 1"),
        ("data.source", "nowhere", "data.source: Input should be"),
        ("data.test", 0.9, "data: validation and test leave nothing to train on"),
        ("data.test", 0, "data.test: Input should be greater than 0, found 0"),
        ("data.validation", 0.0, "data.validation: Input should be greater than 0, found 0.0"),
        ("data.sizes", None, "data.sizes: the embedded source needs it"),
        ("data.hub", "owner/set", "data.revision: owner/set is no folder here, and a Hub id needs the commit"),
        ("model.source", "owner/model", "model.revision: owner/model is no folder here, and a Hub id needs the commit"),
        ("rewards.helpful", PRETRAINED, "rewards.helpful.revision: owner/judge is no folder here"),
        ("rewards.helpful", PRETRAINED, "rewards.helpful: input and logit of owner/judge are unknown"),
        ("rl.lora.dropout", 0.1, "rl.lora.dropout: must be 0, as RLOO switches dropout off; found 0.1"),
        ("diagnosis.samples", 1, "diagnosis.samples: a single prompt shows no spread"),
        ("rl.micro_batch", 100, "rl.micro_batch: 100 does not divide prompts * generations = 128"),
    ],
)
def test_a_wrong_setting_is_named_by_its_key(path, value, fault):
    reported = faults(changed(path, value))
    assert any(line.startswith(fault) for line in reported), reported


@pytest.mark.parametrize(
    ("path", "value", "fault"),
    [
        ("seed", "0", "seed: Input should be a valid integer, found '0'"),
        ("seed", 0.0, "seed: Input should be a valid integer, found 0.0"),
        ("threads", True, "threads: Input should be a valid integer, found True"),
        ("generation.max_new_tokens", "16", "generation.max_new_tokens: Input should be a valid integer, found '16'"),
        ("generation.temperature", "1.0", "generation.temperature: Input should be a valid number, found '1.0'"),
        ("rl.learning_rate", "5e-3", "rl.learning_rate: Input should be a valid number, found '5e-3'"),
        ("rl.lora.rank", True, "rl.lora.rank: Input should be a valid integer, found True"),
        ("basis.beta", "0.7", "basis.beta: Input should be a valid number, found '0.7'"),
        ("basis.beta", True, "basis.beta: Input should be a valid number, found True"),
        ("oracles", [["0.5", "0.5"]], "oracles.0.0: Input should be a valid number, found '0.5'"),
        ("preferences.odd", {"helpful": "1", "harmless": 0}, "preferences.odd.helpful: Input should be a valid number"),
        ("extrapolation.per_objective", "false", "extrapolation.per_objective: Input should be a valid boolean"),
        ("rewards.helpful.steps", "500", "rewards.helpful.steps: Input should be a valid integer, found '500'"),
        ("seek.betas", [0.7, 1], "seek.betas.1: write 1.0: the value names a stage"),
        ("rl.lora.targets", 5, "rl.lora.targets: Input should be a valid string, found 5, or Input should be a valid"),
        ("policies", ..., "policies: missing; `bonesoup profile --fill` fills it in"),
        ("rewards.helpful.source", ..., "rewards.helpful.source: missing; `bonesoup profile --fill` fills it in"),
    ],
)
def test_a_value_of_another_type_is_refused_by_its_key(path, value, fault):
    """A number in quotes is text: later stages would compare it, or pass it to a library, as text."""
    reported = faults(changed(path, value))
    assert any(line.startswith(fault) for line in reported), reported


@pytest.mark.parametrize(("path", "value"), [("rl.learning_rate", 1), ("basis.beta", 1), ("rl.kl", 0)])
def test_a_whole_number_is_a_number(path, value):
    assert params.check(changed(path, value))


def test_a_budget_that_does_not_reach_for_every_phase_of_ric_is_refused():
    raw = copy.deepcopy(DEFAULT)
    raw["ric"]["rounds"] = 100
    assert params.check(raw).ric.rounds == 100
    raw["methods"] = [*raw["methods"], "ric"]
    with pytest.raises(
        ValueError, match="ric.rounds: 120 updates do not reach for 100 online rounds .* raise rl.updates"
    ):
        params.check(raw)
    # Three backbones have half as much again, if the total is not fixed.
    raw["rl"]["updates"] = None
    raw["basis"] = {"kind": "rows", "beta": 0.7, "rows": [[0.8, 0.2], [0.2, 0.8], [0.5, 0.5]]}
    raw["policies"]["backbones"]["slots"].append("backbone-3")
    assert params.check(raw)


def test_adapters_that_train_together_need_one_group_and_one_process():
    raw = copy.deepcopy(DEFAULT)
    raw["methods"] = [*raw["methods"], "clp"]
    raw["policies"] |= {"clps": {"slots": ["clp-1", "clp-2"]}}
    assert params.check(raw)
    apart = raw | {"policies": raw["policies"] | {"clps": {"slots": ["clp-1"]}, "more": {"slots": ["clp-2"]}}}
    assert faults(apart) == [
        "policies: clp-1 is trained together with clp-2, so that it belongs to their group",
        "policies: clp-2 is trained together with clp-1, so that it belongs to their group",
    ]
    for key, on, off in (("accelerate", "accelerate/cpu-two.yaml", "null"), ("vllm", True, "false")):
        several = raw | {"hardware": raw["hardware"] | {key: on}, "device": "cuda"}
        assert faults(several) == [
            f"hardware.{key}: TRL trains a policy for one row, and clp draws a preference for each prompt: set "
            f"hardware.{key}: {off}, or leave clp out of methods"
        ]


def test_the_grid_and_the_rules_speak_together_with_the_fields():
    """One message holds the faults of single fields and of rules across keys alike."""
    raw = changed("basis.beta", 2)
    raw["rl"]["stesp"] = 3
    raw["preferences"]["odd"] = {"helpful": 2, "humour": -1}
    raw["policies"]["backbones"]["slots"].append("backbone-9")
    raw["device"] = "tpu"
    text = "\n".join(faults(raw))
    for part in ("basis.beta", "rl.stesp", "preferences.odd", "humour", "backbone-9", "device"):
        assert part in text


def test_one_wrong_field_hides_no_rule_of_its_section():
    raw = changed("rewards.helpful.steps", -1)
    raw["rewards"]["humor"] = raw["rewards"]["helpful"]
    text = "\n".join(faults(raw))
    assert "rewards.humor: not among objectives" in text
    assert "steps" in text


@pytest.mark.parametrize("schema", [0, None, "1", 2, 1.5])
def test_another_schema_says_what_to_do(schema):
    message = refused(changed("schema", schema))
    assert f"schema {schema!r}, this version reads {params.SCHEMA}" in message
    assert "bonesoup profile" in message


@pytest.mark.parametrize("raw", [None, [], "text", 3])
def test_a_file_without_settings_is_refused(raw):
    assert "must be a mapping of settings" in refused(raw)


def test_a_missing_file_says_how_to_get_one(tmp_path):
    with pytest.raises(ValueError, match=r"params\.yaml does not exist.*bonesoup profile"):
        params.load(tmp_path / "params.yaml")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"a: [1, 2\nb: 3\n", "line 2"),
        (b"a: 1\na: 2\n", "duplicate key"),
        (b"\xff\xfe\x00s\xd8", "byte 0xff"),
        (b"a: \x00", "control characters"),
    ],
)
def test_what_is_no_yaml_is_named_with_the_reason(tmp_path, content, reason):
    path = tmp_path / "params.yaml"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="params.yaml is not valid YAML") as caught:
        params.load(path)
    assert reason in str(caught.value)


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / "params.yaml").touch()
    with pytest.raises(ValueError, match="must be a mapping"):
        params.load(tmp_path / "params.yaml")


@given(beta=st.floats(allow_nan=True, allow_infinity=True), n=st.integers(2, 5))
def test_beta_is_accepted_exactly_inside_its_interval(beta, n):
    names = [f"objective-{i}" for i in range(n)]
    raw = copy.deepcopy(DEFAULT) | {
        "objectives": names,
        "rewards": dict.fromkeys(names, {"kind": "function", "function": "a:b", "source": "a.py"}),
        "oracles": [],
        "methods": ["bone"],
        "policies": {"backbones": {"slots": [f"backbone-{k}" for k in range(1, n + 1)]}},
        "preferences": {},
        "register": {"name": "soup", "merged": []},
        "basis": {"beta": beta},
    }
    # Just above 1/n the L1 norm of the coefficients is past the 10 that is accepted; s is the inset of the rows.
    s = (n * beta - 1) / (n - 1)
    if 1 / n < beta <= 1 and (1 + (n - 2) * (1 - s) / n) / s <= 10:
        assert params.check(raw).basis.beta == beta
    else:
        assert [line.split(":")[0] for line in faults(raw)] == ["basis.beta"]


@pytest.mark.parametrize(
    ("distribution", "beta"),
    [
        ("interior", 0.7),
        ("uniform", 0.7887),
        ({"dirichlet": 1.0}, 0.7887),
        ({"dirichlet": 4.0}, round((1 + 1 / 3) / 2, 4)),
        ([{"preference": [1, 0]}, {"preference": [0.5, 0.5], "share": 3}], 0.75),
    ],
)
def test_beta_auto_follows_from_the_stated_preferences(distribution, beta):
    """For two objectives (1 + sqrt(E x^2)) / 2, x = 2 mu - 1; of a Dirichlet distribution E x^2 = 1 / (2 a + 1)."""
    raw = changed("basis", DEFAULT["basis"] | {"beta": "auto", "distribution": distribution})
    assert params.check(raw).beta == beta
    raw["seek"]["betas"] = [0.6]
    assert faults(raw) == [
        f"seek.betas: [0.6] must hold basis.beta = {beta:g}, which is kept where none is better; {schema.FILL}"
    ]


@pytest.mark.parametrize(
    ("basis", "fault"),
    [
        ({"distribution": [{"preference": [0.5, 0.6]}]}, "basis.beta: auto has no answer for basis.distribution: pref"),
        ({"distribution": [{"preference": [0.5, 0.5]}]}, "basis.beta: auto has no answer for basis.distribution: pref"),
        ({"distribution": [{"preference": [0.5]}]}, "basis.beta: auto has no answer for basis.distribution: pref"),
        ({"distribution": [{"preference": [1, 0]}, {"preference": [1]}]}, "basis.beta: auto has no answer for basis"),
        ({"distribution": []}, "basis.distribution: Input should be 'interior' or 'uniform', found []"),
        ({"kind": "identity"}, "basis.beta: auto is for a circulant basis, basis.kind is identity; write a number"),
    ],
)
def test_preferences_that_choose_no_beta_are_refused(basis, fault):
    reported = faults(changed("basis", DEFAULT["basis"] | {"beta": "auto"} | basis))
    assert any(line.startswith(fault) for line in reported), reported


@given(st.lists(st.floats(-2, 2), min_size=2, max_size=2))
def test_a_preference_is_accepted_exactly_on_the_simplex(weights):
    reported = preference_faults(dict(zip(["a", "b"], weights, strict=True)), ["a", "b"])
    assert (reported == []) == (min(weights) >= 0 and abs(sum(weights) - 1) <= 1e-6)


LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
ANYTHING = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
)


@given(value=ANYTHING, key=st.sampled_from(sorted(DEFAULT)))
def test_no_value_whatever_breaks_the_check(value, key):
    """Anything in place of a section is accepted or reported, never a crash inside the rules."""
    with contextlib.suppress(ValueError):
        params.check(changed(key, value))


def test_a_named_and_a_written_preference_agree():
    settings = params.check(copy.deepcopy(DEFAULT))
    assert settings.preference("helpful-first") == [0.8, 0.2]
    assert settings.preference("harmless=0.2, helpful=0.8") == [0.8, 0.2]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("carefull", "careful"),
        ("helpful=0.7", "no weight for harmless"),
        ("helpful=0.7,harmless=0.7", "sum to 1.4"),
        ("helpful=nan,harmless=1", "finite"),
        ("helpful=0.5,humor=0.5", "unknown objectives humor"),
        ("helpful=0.5,helpful=0.5,harmless=0.5", "twice"),
        ("", "helpful=0.7,harmless=0.3"),
        ("helpful=a,harmless=b", "helpful=0.7,harmless=0.3"),
    ],
)
def test_a_wrong_preference_on_the_command_line_is_explained(text, reason):
    with pytest.raises(ValueError, match="preference") as caught:
        params.check(copy.deepcopy(DEFAULT)).preference(text)
    assert reason in str(caught.value)


def test_settings_are_frozen():
    settings = params.check(copy.deepcopy(DEFAULT))
    with pytest.raises(ValueError, match="frozen"):
        settings.seed = 3
