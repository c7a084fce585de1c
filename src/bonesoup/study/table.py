"""The results of a study in Markdown: each method against Rewarded Soup in each setting, over seeds."""

from collections.abc import Sequence
from itertools import zip_longest

from bonesoup.evaluation.tables import COSTS, label
from bonesoup.evaluation.units import UNITS
from bonesoup.method.methods import BASELINE, ORACLE, SFT, title
from bonesoup.study import cells as plans
from bonesoup.study import predictions, results
from bonesoup.study.groups import Group, grouped
from bonesoup.study.results import DIFFERENCES, INTERIOR, RATIOS
from bonesoup.study.statistics import geometric, mean
from bonesoup.study.writing import NONE, averaged, over_seeds, rendered, written

COMPARED = {
    "Vertices": "inner_product_vertex",
    "Whole grid": "inner_product",
    "Controllability": "controllability",
    "KL": "kl",
}
REGIONS = {"interior": INTERIOR, "whole grid": COMPARED["Whole grid"], "vertices": COMPARED["Vertices"]}
PLACES = ("ahead", "level", "behind", "one seed only")
# Columns of the differences that go into a separate table.
DETAILS = (
    *("d_z, gold", "d_z, judge", "d_z, learned"),
    *("prompts ±", "Controllability", "KL", "HV ratio", "above the second"),
)
LEVELS = ("inner_product_interior", "inner_product_vertex", "inner_product", "controllability", "kl", "tokens")
SPENT = {
    "training_cpu": "Training, CPU s",
    "training": "Training, s",
    "answering_cpu": "Answering, CPU s",
    "answering": "Answering, s",
    "peak_mb": "Peak, MB",
}


def of_study(study: str, seeds: Sequence[int] = (), settings: Sequence[str] = ()) -> str:
    """Write every table of a study's results; results of former settings are left out, and named.

    Args:
        seeds, settings: those to show; without any, all.

    Raises:
        ValueError: no such study, or no such cell is finished.
    """
    present, other = results.present(study)
    present = [row for row in present if not seeds or row["seed"] in seeds]
    present = [row for row in present if not settings or row["setting"] in settings]
    text = markdown(list(plans.read(study).settings), present)
    return f"{text}\nLeft out, of other settings than the study has now: {', '.join(other)}.\n" if other else text


def markdown(settings: list[str], cells: list[dict]) -> str:
    """Write every table of a study.

    Args:
        settings: in the order to show; others follow.
        cells: from `results.read`.

    Raises:
        ValueError: no cell is finished.
    """
    if not cells:
        raise ValueError("no cell is finished: `bonesoup study` runs them")
    listed = grouped(settings, cells)
    against = [group for group in listed if group.method not in (BASELINE, SFT)]
    gaps = [difference(group) for group in against]
    order = list(dict.fromkeys(group.setting for group in listed))
    parts = [
        f"**Against {title(BASELINE)}, paired by seed**",
        rendered([{key: text for key, text in row.items() if key not in DETAILS} for row in gaps]),
        f"**Settings in which a method is ahead of {title(BASELINE)}, level with it or behind**",
        rendered(standing(against), words=PLACES),
        scales(order, cells),
        "**The same differences: effect sizes and other metrics**",
        rendered([{key: row[key] for key in ("setting", "method", *DETAILS) if key in row} for row in gaps]),
    ]
    if compared := predictions.compare(order, cells):
        parts += ["**Bone Soup's interior gain, as predicted from the specialists**", predictions.markdown(compared)]
    soups, misses = predictions.soups(order, cells)
    if soups:
        parts += ["**Every soup's gain, as predicted from the specialists**", rendered(soups), misses]
    parts += ["**Levels**", rendered(levels(listed)), "**Costs**", rendered(costs(listed)), notes(cells)]
    return "\n\n".join(part for part in parts if part) + "\n"


def difference(group: Group) -> dict[str, str]:
    """Return a method's row of the main table."""
    row = {"setting": group.setting, "method": group.name, "seeds": str(len(group.cells))}
    for unit in UNITS:
        values = group.values(DIFFERENCES, INTERIOR, unit)
        score = UNITS[unit].partition(" ")[0]
        row[f"Interior, {score}"] = over_seeds(INTERIOR, values, signed=True)
        row[f"d_z, {score}"] = _effect(values)
        if unit == "gold":
            row["prompts ±"] = NONE if group.unit == "reward" else _prompts(group.values(DIFFERENCES, INTERIOR))
    for unit in ("gold", "judge"):
        row[f"survives in {unit}"] = survival(group, unit)
    row["to the oracle"] = _to_oracle(group)
    for heading, metric in COMPARED.items():
        row[heading] = over_seeds(metric, group.values(DIFFERENCES, metric), signed=True)
    for heading, metric in zip_longest(("HV ratio", "above the second"), group.volumes[:2]):
        row[heading] = _ratio(group.values(RATIOS, metric)) if metric else NONE
    return row


def survival(group: Group, unit: str) -> str:
    """Return the share of the interior gain in learned reward that another unit confirms; empty without a sure gain."""
    learned = group.values(DIFFERENCES, INTERIOR, "reward")
    truer = group.values(DIFFERENCES, INTERIOR, unit)
    if not truer or not learned or averaged(learned).sign <= 0:
        return NONE
    return f"{averaged(truer).value / averaged(learned).value:.0%}".replace("-", "−")


def _to_oracle(group: Group) -> str:
    """Return the interior difference to the oracle, on the oracle's grid, paired by seed."""
    gaps = []
    for cell in group.cells:
        for grid in cell["grids"].values():
            methods = grid.get(group.unit, {}).get(DIFFERENCES, {})
            value, best = (methods.get(method, {}).get(INTERIOR) for method in (group.method, ORACLE))
            if value and best and group.method != ORACLE:
                gaps.append(value[0] - best[0])
    return written(INTERIOR, mean(gaps), signed=True) if gaps else NONE


def _ratio(values: list[list[float]]) -> str:
    ratio = geometric([value[0] for value in values]) if values else None
    if ratio is None:
        return NONE
    text = f"×{ratio[0]:.3f}"
    return text if len(values) == 1 else f"{text} [{ratio[1]:.3f}, {ratio[2]:.3f}]"


def levels(compared: list[Group]) -> list[dict[str, str]]:
    rows = []
    for group in compared:
        row = {"setting": group.setting, "method": group.name, "seeds": str(len(group.cells))}
        row |= {label(metric): over_seeds(metric, group.values("methods", metric)) for metric in LEVELS}
        volume = group.volumes[0]
        row["HV"] = over_seeds(volume, group.values("methods", volume))
        rows.append(row)
    return rows


def costs(compared: list[Group]) -> list[dict[str, str]]:
    """Return the cost of each method, averaged over seeds."""
    rows = []
    for group in compared:
        row = {"setting": group.setting, "method": title(group.method)}
        for key, (heading, _) in COSTS.items():
            row[heading] = _average([cell.get("costs", {}).get(group.method, {}).get(key) for cell in group.cells])
        for key, heading in SPENT.items():
            row[heading] = _average([cell["spent"].get(group.method, {}).get(key) for cell in group.cells])
        rows.append(row)
    return rows


def _average(values: list[float | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{sum(known) / len(known):,.0f}" if known else NONE


def standing(compared: list[Group]) -> list[dict[str, str]]:
    """Sort the settings of each method and region by the sign of the difference over seeds.

    The last column counts the cells that are ahead and behind by their intervals over prompts.
    """
    rows = []
    for method in dict.fromkeys(group.method for group in compared):
        for region, metric in REGIONS.items():
            places: dict[str, list[str]] = {place: [] for place in PLACES}
            cells = []
            for group in (group for group in compared if group.method == method):
                if values := group.values(DIFFERENCES, metric):
                    gap = averaged(values)
                    place = "one seed only" if gap.half is None else {1: "ahead", 0: "level", -1: "behind"}[gap.sign]
                    places[place].append(group.setting)
                    cells += values
            ahead, behind = sum(low > 0 for _, low, _ in cells), sum(high < 0 for _, _, high in cells)
            row = {"method": title(method), "where": region}
            row |= {place: ", ".join(settings) for place, settings in places.items()}
            rows.append(row | {"cells ahead, behind": f"{ahead}, {behind} of {len(cells)}"})
    return rows


def scales(settings: list[str], cells: list[dict]) -> str:
    """Return the scales that methods chose, seed by seed, if there was a choice."""
    lines = []
    for setting in settings:
        scales_of: dict[str, list[str]] = {}
        for cell in (cell for cell in cells if cell["setting"] == setting):
            for method, scale in (cell.get("scales") or {}).items():
                if scale:
                    scales_of.setdefault(method, []).append("/".join(f"{value:g}" for value in dict.fromkeys(scale)))
        lines += [
            f"- {setting}: {title(method)} chose {', '.join(chosen)} (1: none)." for method, chosen in scales_of.items()
        ]
    return "\n".join(lines)


def notes(cells: list[dict]) -> str:
    machines = sorted({_machine(cell["machine"]) for cell in cells})
    commits = sorted({cell["commit"][:7] for cell in cells})
    prompts = sorted({cell["prompts"] for cell in cells})
    seeds = sorted({cell["seed"] for cell in cells})
    judged = any("judge" in grid for cell in cells for grid in cell["grids"].values())
    meant = "; ".join(f"{heading.lower()}: {meaning}" for heading, meaning in COSTS.values())
    return (
        f"Cells: {len(cells)}; seeds: {', '.join(map(str, seeds))}; test prompts each: {', '.join(map(str, prompts))}. "
        f"Scores are in SFT standard deviations, gold where it is known, else {'the judge, else ' * judged}learned.\n\n"
        "- ±: half a 95% t interval over seeds; differences are paired by seed.\n"
        "- ahead, behind: the interval over seeds excludes 0; of cells: the interval over prompts does.\n"
        "- prompts ±: half the mean 95% bootstrap interval over test prompts within a seed.\n"
        "- d_z: Cohen's effect size, the mean over the standard deviation of the seeds' differences.\n"
        "- survives in gold: share of the interior gain in learned reward that gold confirms.\n"
        + "- survives in judge: the same of the judge, which trained no policy.\n"
        * judged
        + "- to the oracle: interior difference to the oracle, on the oracle's grid.\n"
        "- HV ratio: geometric mean, above the setting's first reference point, and above the second.\n"
        "- †: on the grid that the method answers, not the whole.\n"
        f"- Costs: {meant}.\n"
        "- Training, answering: seconds of the stages that train the method's policies, and of those that answer the "
        "test prompts at every preference. Shared stages count for each method; an interrupted stage counts from where "
        "it went on. Peak: memory of the largest of these stages.\n\n"
        f"Measured at {', '.join(commits)} on {'; '.join(machines)}."
    )


def _machine(facts: dict) -> str:
    text = f"{facts['cpu']}, {facts['cores']} cores"
    return f"{facts['gpu']} ({text})" if "gpu" in facts else text


def _effect(values: list[list[float]]) -> str:
    effect = averaged(values).effect if values else None
    return NONE if effect is None else f"{effect:+.1f}".replace("-", "−")


def _prompts(values: list[list[float]]) -> str:
    return f"{mean([(high - low) / 2 for _, low, high in values]).value:.3f}" if values else NONE
