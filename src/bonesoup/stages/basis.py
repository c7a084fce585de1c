"""basis: the weight row of every slot. Backbone k trains on h_k = sum_i B_ki r_i (Bone Soups, section 3.1)."""

from dataclasses import asdict

from bonesoup.files import appearing, read_json, write_json
from bonesoup.method.basis import Conditioning, basis_rows, conditioning
from bonesoup.method.methods import Plan, trainings
from bonesoup.paths import BETA, METRICS, ROWS
from bonesoup.settings.schema import Settings


def run(settings: Settings, key: None) -> None:
    wanted, n = settings.basis, len(settings.objectives)
    basis = basis_rows(wanted.kind, n, read_json(BETA)["beta"], wanted.rows)
    plan = trainings(settings.methods, Plan.of(basis, settings.oracles), settings.rl.steps, settings.rl.updates)
    found = conditioning(basis)
    _say(settings, found)
    write_json(METRICS / "basis.json", {"rows": basis.tolist()} | asdict(found))
    with appearing(ROWS) as folder:
        folder.mkdir()
        for name, group in settings.policies.items():
            here = {slot: plan[slot] for slot in group.slots}
            write_json(
                folder / f"{name}.json",
                {
                    "slots": {slot: one.row for slot, one in here.items()},
                    "steps": {slot: one.steps for slot, one in here.items()},
                    "starts": {slot: one.start for slot, one in here.items() if one.start},
                },
            )
            for slot, one in here.items():
                start = f", from the soup of {', '.join(one.start)}" if one.start else ""
                print(f"basis: {name}/{slot}: {one.steps} steps on {_formula(settings.objectives, one.row)}{start}")


def _say(settings: Settings, found: Conditioning) -> None:
    print(
        f"basis: {settings.basis.kind}: condition number {found.condition:.3g}; L1 norm of the coefficients "
        f"{found.l1:.3g} at worst, {found.l1_even:.3g} at the even preference"
    )
    if found.loud:
        print(
            f"basis: WARNING: coefficients of norm {found.l1:.3g} amplify the noise of every policy as much, and the "
            "rounding of weights in bfloat16: take a larger basis.beta or rows that point further apart"
        )


def _formula(objectives: list[str], row: list[float]) -> str:
    return " + ".join(f"{weight:g} {name}" for name, weight in zip(objectives, row, strict=True) if weight)
