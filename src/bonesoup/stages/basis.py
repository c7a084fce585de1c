"""basis: the weight row of every slot. Backbone k trains on h_k = sum_i B_ki r_i (Bone Soups, section 3.1)."""

from dataclasses import asdict

from bonesoup.files import appearing, read_json, write_json
from bonesoup.method.basis import Conditioning, basis_rows, compromise, conditioning
from bonesoup.method.methods import Plan, trainings
from bonesoup.paths import BETA, METRICS, ROWS
from bonesoup.settings.schema import Settings

_STATED = {"own": "them", "others": "others, as a control"}


def run(settings: Settings, key: None) -> None:
    wanted, n = settings.basis, len(settings.objectives)
    basis = basis_rows(wanted.kind, n, read_json(BETA)["beta"], wanted.rows)
    plan = trainings(settings.methods, Plan.of(basis, settings.oracles), settings.rl.steps, settings.rl.updates)
    norms = conditioning(basis, **compromise(basis))
    _say(settings, norms)
    write_json(METRICS / "basis.json", {"rows": basis.tolist()} | asdict(norms))
    with appearing(ROWS) as folder:
        folder.mkdir()
        for name, group in settings.policies.items():
            here = {slot: plan[slot] for slot in group.slots}
            write_json(
                folder / f"{name}.json",
                {
                    "slots": {slot: training.row for slot, training in here.items()},
                    "steps": {slot: training.steps for slot, training in here.items()},
                    "starts": {slot: training.start for slot, training in here.items() if training.start},
                    "reads": {slot: training.reads for slot, training in here.items() if training.reads},
                    "together": list(dict.fromkeys(each.together for each in here.values() if each.together)),
                },
            )
            for slot, training in here.items():
                start = f", from the soup of {', '.join(training.start)}" if training.start else ""
                others = ", ".join(other for other in training.together if other != slot)
                company = f", mixed with {others} at every preference" if others else ""
                if training.reads:
                    company = f", as the mean of preferences; prompts state {_STATED[training.reads]}"
                formula = _formula(settings.objectives, training.row)
                print(f"basis: {name}/{slot}: {training.steps} steps on {formula}{start}{company}")


def _say(settings: Settings, norms: Conditioning) -> None:
    print(
        f"basis: {settings.basis.kind}: condition number {norms.condition:.3g}; L1 norm of the coefficients "
        f"{norms.l1:.3g} at worst, {norms.l1_even:.3g} at the even preference"
    )
    if norms.loud:
        print(
            f"basis: WARNING: coefficients of norm {norms.l1:.3g} amplify the noise of every policy as much, and the "
            "rounding of weights in bfloat16: take a larger basis.beta or rows that point further apart"
        )


def _formula(objectives: list[str], row: list[float]) -> str:
    return " + ".join(f"{weight:g} {name}" for name, weight in zip(objectives, row, strict=True) if weight)
