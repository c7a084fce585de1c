"""params.yaml read and checked: every key, and every rule that spans keys.

`load` reports all faults in one ValueError.
"""

from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from bonesoup.method.methods import method_slots
from bonesoup.method.preferences import preference_faults
from bonesoup.settings.pins import Pin, remote, unpinned
from bonesoup.settings.schema import (
    Basis,
    Data,
    Estimate,
    Evaluation,
    Extrapolation,
    Group,
    Hardware,
    LabelReward,
    Model,
    Name,
    PairReward,
    PretrainedReward,
    Register,
    Reward,
    Ric,
    Rl,
    Seek,
    Settings,
)

SCHEMA = 1
PARAMS = Path("params.yaml")
# What a source can label; pairs in the hh-rlhf format may be about anything.
LABELS = {
    "embedded": ("helpful", "harmless", "humor"),
    "qa-feedback": ("relevance", "factuality", "completeness"),
}


def load(path: Path = PARAMS) -> Settings:
    """Read and check a params file.

    Raises:
        ValueError: the file is missing or not YAML, or any setting is wrong; lists every fault.
    """
    if not path.is_file():
        raise ValueError(
            f"{path.absolute()} does not exist: run from the project's root, or write it with `bonesoup profile`"
        )
    return check(parse_yaml(path.read_bytes(), str(path)), str(path))


def parse_yaml(content: bytes, name: str) -> Any:
    """Plain data of a YAML file; `name` stands for it in the message.

    Raises:
        ValueError: it is not YAML, or not UTF-8.
    """
    try:
        return YAML(typ="safe").load(content.decode())
    except (YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{name} is not valid YAML in UTF-8: {error}") from None


def check(raw: Any, path: str = "params", pinned: bool = True) -> Settings:
    """Validate plain data as settings; `path` names it in the message.

    Args:
        pinned: refuse Hub ids without a commit. Off only for what looks the commits up, or runs nothing.
    """
    if not isinstance(raw, dict):
        raise ValueError(f"{path} must be a mapping of settings, found {type(raw).__name__}")
    if raw.get("schema") != SCHEMA:
        raise ValueError(
            f"{path} has schema {raw.get('schema')!r}, this version reads {SCHEMA}: write a fresh one with "
            "`bonesoup profile NAME` and carry your changes over"
        )
    faults = []
    settings = None
    try:
        settings = Settings.model_validate(raw)
    except ValidationError as error:
        faults += [fault_of(item) for item in error.errors()]
    if pinned:
        faults += [unpinned(pin) for pin in _remote(raw) if not pin.revision]
    faults += _rules(raw)
    if faults:
        listing = "\n".join(f"  - {fault}" for fault in faults)
        raise ValueError(f"{path} has {len(faults)} fault{'s' * (len(faults) > 1)}:\n{listing}")
    return settings


def fault_of(item: dict) -> str:
    """One of pydantic's errors as 'key: what is wrong'."""
    where = ".".join(str(part) for part in item["loc"])
    if item["type"] == "extra_forbidden":
        return f"{where}: unknown key"
    if item["type"] == "missing":
        return f"{where}: missing"
    return f"{where}: {item['msg']}, found {item['input']!r}"


def _parsed(kind: Any, value: Any) -> Any:
    """`value` as `kind`, or None where its own section already reports it."""
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError:
        return None


def _rules(raw: dict) -> list[str]:
    """Faults that span keys. Works on raw data, so that they are reported beside the faults of fields."""
    names = _parsed(list[Name], raw.get("objectives"))
    if not names or len(names) < 2:
        return []
    faults = []
    n = len(names)
    if len(set(names)) < n:
        faults.append(f"objectives: {names} repeats a name")
    faults += _reward_rules(raw, names)
    faults += _label_rules(raw)
    faults += _basis_rules(raw, n)
    faults += _preference_rules(raw, names)
    faults += _slot_rules(raw, n)
    faults += _ric_rules(raw, n)
    if data := _parsed(Data, raw.get("data")):
        if data.validation + data.test >= 1:
            faults.append("data: validation and test leave nothing to train on")
        if data.source == "embedded" and not data.sizes:
            faults.append("data.sizes: the embedded source needs it")
    hardware = _parsed(Hardware, raw.get("hardware", {}))
    if hardware and hardware.vllm and raw.get("device") != "cuda":
        faults.append(f"hardware.vllm: vLLM generates on a GPU, and device is {raw.get('device')}")
    estimate = _parsed(Estimate, raw.get("estimate"))
    if estimate and set(estimate.rewards) != set(names):
        faults.append(
            f"estimate.rewards: has sizes for {', '.join(estimate.rewards)}, objectives are {', '.join(names)}"
        )
    if rl := _parsed(Rl, raw.get("rl")):
        if rl.prompts * rl.generations % rl.micro_batch:
            rows = rl.prompts * rl.generations
            faults.append(f"rl.micro_batch: {rl.micro_batch} does not divide prompts * generations = {rows}")
        if rl.lora.dropout:
            faults.append(f"rl.lora.dropout: must be 0, as RLOO switches dropout off; found {rl.lora.dropout}")
    return faults


def _remote(raw: dict) -> list[Pin]:
    rewards = raw.get("rewards") if isinstance(raw.get("rewards"), dict) else {}
    return remote(
        _parsed(Data, raw.get("data")),
        _parsed(Model, raw.get("model")),
        {name: _parsed(Reward, value) for name, value in rewards.items()},
    )


def _basis_rules(raw: dict, n: int) -> list[str]:
    basis = _parsed(Basis, raw.get("basis"))
    if basis is None:
        return []
    faults = []
    betas = {"basis.beta": basis.beta}
    if seek := _parsed(Seek, raw.get("seek", {})):
        betas |= {f"seek.betas.{k}": beta for k, beta in enumerate(seek.betas, start=1)}
        if seek.betas and basis.kind != "circulant":
            faults.append(f"seek.betas: only a circulant basis has a beta to look for, basis.kind is {basis.kind}")
        if seek.betas and basis.beta not in seek.betas:
            faults.append(
                f"seek.betas: {seek.betas} must hold basis.beta = {basis.beta:g}, which is kept where none is better"
            )
        if len(set(seek.betas)) < len(seek.betas):
            faults.append(f"seek.betas: {seek.betas} repeats a value")
        # DVC names a stage by the value as it is written, and the stage looks for a float.
        if whole := [beta for beta in seek.betas and raw["seek"]["betas"] if isinstance(beta, int)]:
            faults.append(f"seek.betas: write {whole[0]}.0 for {whole[0]}: it names a stage")
    faults += [
        f"{key}: must be in (1/{n}, 1] for {n} objectives, found {beta}"
        for key, beta in betas.items()
        if not 1 / n < beta <= 1
    ]
    if (extrapolation := _parsed(Extrapolation, raw.get("extrapolation", {}))) and 1 not in extrapolation.scales:
        faults.append(f"extrapolation.scales: {extrapolation.scales} must hold 1, which is none")
    if basis.kind != "rows":
        if basis.rows:
            faults.append(f"basis.rows: only kind rows has rows of its own, basis.kind is {basis.kind}; set it to null")
        return faults
    rows = basis.rows or []
    if any(len(row) != n for row in rows):
        return [*faults, f"basis.rows: every row needs {n} weights, one per objective, found {rows}"]
    from bonesoup.method.basis import coefficients

    try:
        coefficients(rows, [[1 / n] * n])
    except ValueError as error:
        faults.append(f"basis.rows: {error}")
    if len(rows) != n and "unmapped" in (_parsed(list[str], raw.get("methods")) or []):
        faults.append(f"methods: unmapped takes the preference for the coefficients, so it needs {n} basis.rows")
    return faults


def _reward_rules(raw: dict, names: list[str]) -> list[str]:
    rewards = raw.get("rewards")
    if not isinstance(rewards, dict):
        return []
    faults = [f"rewards.{name}: not among objectives {names}" for name in rewards if name not in names]
    faults += [f"rewards.{name}: missing" for name in names if name not in rewards]
    for name, value in rewards.items():
        reward = _parsed(Reward, value)
        if isinstance(reward, PairReward | LabelReward) and reward.source != f"out/data/rewards/{name}.jsonl":
            faults.append(f"rewards.{name}.source: must be out/data/rewards/{name}.jsonl, found {reward.source}")
        if isinstance(reward, PretrainedReward) and "unknown" in (reward.input, reward.logit):
            faults.append(
                f"rewards.{name}: input and logit of {reward.model} are unknown: look them up in its "
                "model card and fill them in"
            )
    return faults


def _label_rules(raw: dict) -> list[str]:
    """The tables of `prepare` against the source they are made from and the rewards that read them."""
    data = _parsed(Data, raw.get("data"))
    if data is None:
        return []
    known = LABELS.get(data.source, data.labels)
    faults = [
        f"data.labels: the {data.source} source has no labels for {name}, it has {', '.join(known)}"
        for name in data.labels
        if name not in known
    ]
    if len(set(data.labels)) < len(data.labels):
        faults.append(f"data.labels: {data.labels} repeats a name")
    # As an hh-rlhf file, the embedded generator gives pairs.
    wrong, has = ("pairs", "labelled responses") if data.source == "qa-feedback" else ("labels", "preference pairs")
    sections = raw.get("rewards") if isinstance(raw.get("rewards"), dict) else {}
    rewards = {name: reward for name, value in sections.items() if (reward := _parsed(Reward, value))}
    for name, reward in rewards.items():
        if reward.source == f"out/data/rewards/{name}.jsonl" and name not in data.labels:
            faults.append(f"rewards.{name}.source: prepare makes this file only for names in data.labels: add {name}")
        if reward.kind == wrong:
            faults.append(f"rewards.{name}.kind: the {data.source} source gives {has}, {wrong} do not fit")
    pairs = [name for name, reward in rewards.items() if reward.kind == "pairs"]
    if data.source in ("hh-rlhf", "summarize-from-feedback") and len(pairs) > 1:
        faults.append(
            f"rewards: {data.source} states one preference, so it trains one reward, not {', '.join(pairs)}; "
            "give the others kind function or pretrained"
        )
    return faults


def _preference_rules(raw: dict, names: list[str]) -> list[str]:
    faults = []
    named = _parsed(dict[str, dict[str, float]], raw.get("preferences")) or {}
    for key, weights in named.items():
        faults += [f"preferences.{key}: {fault}" for fault in preference_faults(weights, names)]
    if register := _parsed(Register, raw.get("register")):
        faults += [f"register.merged: {key!r} is no named preference" for key in register.merged if key not in named]
    parts = (_parsed(Evaluation, raw.get("evaluation")) or Evaluation.model_construct(parts=None)).parts
    rows = _parsed(list[list[float]], raw.get("oracles")) or []
    for k, row in enumerate(rows, start=1):
        if row in rows[: k - 1]:
            faults.append(f"oracles.{k}: {row} repeats oracles.{rows.index(row) + 1}")
        if len(row) != len(names):
            faults.append(f"oracles.{k}: has {len(row)} weights for {len(names)} objectives")
            continue
        faults += [f"oracles.{k}: {fault}" for fault in preference_faults(dict(zip(names, row, strict=True)), names)]
        if parts and any(abs(weight * parts - round(weight * parts)) > 1e-6 for weight in row):
            faults.append(f"oracles.{k}: {row} is not on the evaluation grid of {parts} parts")
    return faults


def _slot_rules(raw: dict, n: int) -> list[str]:
    groups = _parsed(dict[str, Group], raw.get("policies"))
    methods = _parsed(list[str], raw.get("methods"))
    oracles = _parsed(list[list[float]], raw.get("oracles"))
    if groups is None or methods is None or oracles is None:
        return []
    given = [slot for group in groups.values() for slot in group.slots]
    backbones = _backbones(raw, n)
    needed = dict.fromkeys(s for method in methods for s in method_slots(method, n, backbones, len(oracles)))
    faults = [f"methods: {name} is listed twice" for name in sorted({m for m in methods if methods.count(m) > 1})]
    if not needed:
        faults.append(f"methods: {', '.join(methods)} train no policy: add rewarded or bone")
    faults += [f"policies: slot {slot} is listed twice" for slot in sorted({s for s in given if given.count(s) > 1})]
    faults += [f"policies: unknown slot {slot}" for slot in given if slot not in needed]
    if missing := [slot for slot in needed if slot not in given]:
        faults.append(f"policies: no group trains {', '.join(missing)}; add {{slots: [{', '.join(missing)}]}}")
    return faults


def _backbones(raw: dict, n: int) -> int:
    basis = _parsed(Basis, raw.get("basis"))
    return len(basis.rows) if basis and basis.kind == "rows" and basis.rows else n


def _ric_rules(raw: dict, n: int) -> list[str]:
    """Whether the backbones' budget, which RiC gets, reaches for its phases."""
    ric, rl = _parsed(Ric, raw.get("ric", {})), _parsed(Rl, raw.get("rl"))
    if ric is None or rl is None or "ric" not in (_parsed(list[str], raw.get("methods")) or []):
        return []
    from bonesoup.method.targets import phases

    try:
        phases(_backbones(raw, n) * rl.steps, ric.rounds, ric.online)
    except ValueError as error:
        return [f"ric.rounds: {error}; take fewer, or raise rl.steps"]
    return []
