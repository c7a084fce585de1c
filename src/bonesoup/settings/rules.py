"""State the rules that span sections of params.yaml, each as a function of a section and the valid ones before it.

`known` holds the fields above the section in `Settings`. A field that is wrong itself is missing there, and the rules
that need it are silent. A fault has the form 'key: what is wrong'.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from bonesoup.method.basis import circulant, compromise, conditioning, matrix
from bonesoup.method.methods import (
    AUTO,
    BACKBONES,
    BASELINE,
    MAIN,
    METHODS,
    Plan,
    method_slots,
    servable,
    trainings,
)
from bonesoup.method.preferences import preference_faults
from bonesoup.method.targets import phases
from bonesoup.settings.evaluation import Estimate, Register
from bonesoup.settings.section import FILL
from bonesoup.settings.training import Basis, Group, Hardware, Ric, Seek, Sft

Known = Mapping[str, Any]


def objective_faults(names: list[str], known: Known) -> list[str]:
    """Refuse a name that comes twice."""
    return [f"objectives: {names} repeats a name"] if len(set(names)) < len(names) else []


def sft_faults(sft: Sft | None, known: Known) -> list[str]:
    """Require fine-tuning of an untrained model, and texts to do it with."""
    model, data = known.get("model"), known.get("data")
    if sft is None and model and model.source == "scratch":
        return ["sft: null, but a model from scratch has to be trained"]
    if sft and data and data.source == "prompts":
        return ["sft: the prompts source has no SFT texts; set it to null"]
    return []


def basis_faults(basis: Basis, known: Known) -> list[str]:
    """Say why the backbones' rows cannot be used."""
    if not (names := known.get("objectives")):
        return []
    return _beta_faults("basis.beta", _beta(basis, known), len(names)) + _row_faults(basis, len(names))


def seek_faults(seek: Seek, known: Known) -> list[str]:
    """Say why the candidates for beta cannot be compared."""
    faults = []
    if names := known.get("objectives"):
        for k, beta in enumerate(seek.betas, start=1):
            faults += _beta_faults(f"seek.betas.{k}", beta, len(names))
    if seek.betas and (basis := known.get("basis")):
        if basis.kind != "circulant":
            faults.append(f"seek.betas: only a circulant basis has a beta to look for, basis.kind is {basis.kind}")
        kept = _beta(basis, known)
        if isinstance(kept, float) and kept not in seek.betas:
            faults.append(
                f"seek.betas: {seek.betas} must hold basis.beta = {kept:g}, which is kept where none is better; {FILL}"
            )
    return faults


def _beta(basis: Basis, known: Known) -> float | str | None:
    """Return beta as a number, the reason if `auto` has no answer, or None if other faults hide it."""
    names, evaluation = known.get("objectives"), known.get("evaluation")
    if basis.beta != "auto":
        return basis.beta
    if basis.kind != "circulant" or not names or not evaluation:
        return None
    try:
        return basis.resolved(len(names), evaluation.parts, evaluation.interior)
    except ValueError as error:
        return str(error)


def _beta_faults(key: str, beta: float | str | None, n: int) -> list[str]:
    if beta is None:
        return []
    if isinstance(beta, str):
        return [f"{key}: auto has no answer for basis.distribution: {beta}"]
    if not 1 / n < beta <= 1:
        return [f"{key}: must be in (1/{n}, 1] for {n} objectives, found {beta}"]
    return _conditioning(key, circulant(n, beta))


def _row_faults(basis: Basis, n: int) -> list[str]:
    if basis.kind != "rows":
        return []
    rows = basis.rows or []
    if any(len(row) != n for row in rows):
        return [f"basis.rows: every row needs {n} weights, one per objective, found {rows}"]
    return _conditioning("basis.rows", rows)


def _conditioning(key: str, rows: ArrayLike) -> list[str]:
    """Refuse rows that reach no preference, or amplify too much."""
    try:
        rows = matrix(rows, "rows")
        fault = conditioning(rows, **compromise(rows)).fault
    except ValueError as error:
        fault = str(error)
    return [f"{key}: {fault}"] if fault else []


def oracle_faults(rows: list[list[float]], known: Known) -> list[str]:
    """Say which oracles are no preferences of the evaluation grid."""
    if not (names := known.get("objectives")):
        return []
    evaluation, faults = known.get("evaluation"), []
    for k, row in enumerate(rows, start=1):
        if row in rows[: k - 1]:
            faults.append(f"oracles.{k}: {row} repeats oracles.{rows.index(row) + 1}")
        if len(row) != len(names):
            faults.append(f"oracles.{k}: has {len(row)} weights for {len(names)} objectives")
            continue
        faults += [f"oracles.{k}: {fault}" for fault in preference_faults(dict(zip(names, row, strict=True)), names)]
        parts = evaluation.parts if evaluation else None
        if parts and any(abs(weight * parts - round(weight * parts)) > 1e-6 for weight in row):
            faults.append(f"oracles.{k}: {row} is not on the evaluation grid of {parts} parts")
    return faults


def method_faults(methods: list[str], known: Known) -> list[str]:
    """Say which methods cannot be compared with these settings."""
    faults = [f"methods: {name} is listed twice" for name in sorted({m for m in methods if methods.count(m) > 1})]
    names, basis = known.get("objectives"), known.get("basis")
    if names and basis and basis.backbones(len(names)) != len(names):
        direct = [m for m in methods if METHODS[m].policies == BACKBONES and METHODS[m].mapping == "direct"]
        faults += [
            f"methods: {method} takes the preference for the coefficients, so it needs {len(names)} basis.rows"
            for method in direct
        ]
    if "ric" in methods and known.get("sft", ...) is None:
        faults.append("methods: ric trains on SFT texts, with the settings of sft, which is null")
    plan = _plan(known)
    if plan and (rl := known.get("rl")):
        for method in methods:
            try:
                trainings([method], plan, rl.steps, rl.updates)
            except ValueError as error:
                faults.append(f"rl.updates: {error} (method {method})")
    if plan and not slots(methods, plan):
        faults.append(f"methods: {', '.join(methods)} train no policy: add {BASELINE} or {MAIN}")
    return faults


def group_faults(groups: dict[str, Group], known: Known) -> list[str]:
    """Say which slots of the methods are not in exactly one group, or apart from those they need."""
    methods, plan = known.get("methods"), _plan(known)
    if plan is None or methods is None:
        return []
    needed = slots(methods, plan)
    given = [slot for group in groups.values() for slot in group.slots]
    twice = sorted({slot for slot in given if given.count(slot) > 1})
    faults = [f"policies: slot {slot} is listed twice" for slot in twice]
    again = "remove `policies`, and `bonesoup profile --fill` writes it again"
    faults += [f"policies: unknown slot {slot}; {again}" for slot in given if slot not in needed]
    if missing := [slot for slot in needed if slot not in given]:
        listed = ", ".join(missing)
        faults.append(f"policies: no group trains {listed}; add {{slots: [{listed}]}}, or {again}")
    # A stage does not know the policies of another.
    where = {slot: name for name, group in groups.items() for slot in group.slots}
    for slot, training in trainings(methods, plan, 1).items():
        how = "starts from" if training.start else "is trained together with"
        others = [other for other in training.start or training.together if other != slot]
        if others and {where.get(slot)} != {where.get(other) for other in others}:
            faults.append(f"policies: {slot} {how} {', '.join(others)}, so that it belongs to their group")
    return faults


def hardware_faults(hardware: Hardware, known: Known) -> list[str]:
    """Say why policies cannot be trained in this way."""
    faults = []
    if hardware.vllm and (device := known.get("device", "cuda")) != "cuda":
        faults.append(f"hardware.vllm: vLLM generates on a GPU, and device is {device}")
    kinds = {method: METHODS[method].policies for method in known.get("methods", [])}
    drawn = [method for method, kind in kinds.items() if kind and (kind.together or kind.reads)]
    for key, off in (("vllm", "false"), ("accelerate", "null")):
        if drawn and getattr(hardware, key):
            faults.append(
                f"hardware.{key}: TRL trains a policy for one row, and {drawn[0]} draws a preference for each prompt: "
                f"set hardware.{key}: {off}, or leave {drawn[0]} out of methods"
            )
    return faults


def ric_faults(ric: Ric, known: Known) -> list[str]:
    """Check that the backbones' budget, which RiC gets, is enough for its phases."""
    names, basis, rl, methods = (known.get(key) for key in ("objectives", "basis", "rl", "methods"))
    if None in (names, basis, rl, methods) or all(METHODS[method].stage != "ric" for method in methods):
        return []
    try:
        phases(rl.budget(basis.backbones(len(names))), ric.rounds, ric.online)
    except ValueError as error:
        return [f"ric.rounds: {error}; take fewer, or raise rl.{'updates' if rl.updates else 'steps'}"]
    return []


def preferences_faults(named: dict[str, dict[str, float]], known: Known) -> list[str]:
    """Say which named preferences are off the simplex."""
    if not (names := known.get("objectives")):
        return []
    return [f"preferences.{key}: {fault}" for key, row in named.items() for fault in preference_faults(row, names)]


def register_faults(register: Register, known: Known) -> list[str]:
    """Say what is to be registered and is not made."""
    faults, methods = [], known.get("methods")
    if (named := known.get("preferences")) is not None:
        unknown = [key for key in register.merged if key not in named]
        faults += [f"register.merged: {key!r} is no named preference" for key in unknown]
    if methods is not None and register.method not in methods:
        served = servable(methods)
        other = f", or register {', '.join(served)}" if served else "; none of them can be registered"
        if register.method != AUTO:
            faults.append(f"register.method: {register.method} is not among methods: add it{other}")
        elif not served:
            faults.append(f"register.method: auto has nothing to choose from{other}: add {BASELINE} or {MAIN}")
    return faults


def estimate_faults(estimate: Estimate | None, known: Known) -> list[str]:
    """Require the size of every reward model."""
    names = known.get("objectives")
    if not estimate or not names or set(estimate.rewards) == set(names):
        return []
    return [f"estimate.rewards: has sizes for {', '.join(estimate.rewards)}, objectives are {', '.join(names)}"]


# The rule of each field of `Settings` that has one.
RULES = {
    "objectives": objective_faults,
    "sft": sft_faults,
    "basis": basis_faults,
    "seek": seek_faults,
    "oracles": oracle_faults,
    "methods": method_faults,
    "policies": group_faults,
    "ric": ric_faults,
    "hardware": hardware_faults,
    "preferences": preferences_faults,
    "register_": register_faults,
    "estimate": estimate_faults,
}


def slots(methods: list[str], plan: Plan) -> list[str]:
    """List the slots that the methods are made of."""
    return list(dict.fromkeys(slot for method in methods if method in METHODS for slot in method_slots(method, plan)))


def _plan(known: Known) -> Plan | None:
    """Count the rows that the settings ask for; None if other faults hide them."""
    names, basis, oracles = (known.get(key) for key in ("objectives", "basis", "oracles"))
    return None if None in (names, basis, oracles) else counts(len(names), basis, oracles)


def counts(n: int, basis: Basis, oracles: list[list[float]]) -> Plan:
    """Return a plan of which only the numbers of rows mean something."""
    return Plan(np.zeros((basis.backbones(n), n)), np.zeros((len(oracles), n)))
