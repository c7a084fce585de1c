"""The results of a study in Markdown: each method against Rewarded Soup in each setting, over seeds."""

from dataclasses import dataclass
from itertools import zip_longest

from bonesoup.evaluation.tables import COSTS, label
from bonesoup.evaluation.units import UNITS
from bonesoup.method.methods import BASELINE, METHODS, ORACLE, SFT, title
from bonesoup.study import cells as plans
from bonesoup.study import predictions, results
from bonesoup.study.results import DIFFERENCES, INTERIOR, RATIOS
from bonesoup.study.statistics import geometric, mean
from bonesoup.study.writing import NONE, over_seeds, rendered, written

COMPARED = {
    "Vertices": "inner_product_vertex",
    "Whole grid": "inner_product",
    "Controllability": "controllability",
    "KL": "kl",
}
REGIONS = {
    "at interior preferences": INTERIOR,
    "over the whole grid": "inner_product",
    "at the vertices": COMPARED["Vertices"],
}
# Columns of the differences that go into a separate table.
EFFECTS = ("d_z, gold", "d_z, judge", "d_z, learned")
DETAILS = (*EFFECTS, "prompts ±", "Controllability", "KL", "HV ratio", "above the second")
LEVELS = ("inner_product_interior", "inner_product_vertex", "inner_product", "controllability", "kl", "tokens")
SPENT = {
    "training_cpu": "Training, CPU s",
    "training": "Training, s",
    "answering_cpu": "Answering, CPU s",
    "answering": "Answering, s",
    "peak_mb": "Peak, MB",
}


@dataclass(frozen=True)
class Group:
    """The cells of a setting that have a method, and the grid it is compared on: the largest it answers."""

    setting: str
    method: str
    cells: tuple[dict, ...]
    grid: str

    def values(self, unit: str, kind: str, metric: str, method: str | None = None) -> list[list[float]]:
        """Return [value, low, high] of each seed that has the metric."""
        blocks = [cell["grids"][self.grid].get(unit, {}).get(kind, {}) for cell in self.cells]
        return [
            methods[method or self.method][metric]
            for methods in blocks
            if metric in methods.get(method or self.method, {})
        ]


def of_study(study: str) -> str:
    """Write every table of a study's results; results of former settings are left out, and named.

    Raises:
        ValueError: no such study, or no cell is finished.
    """
    present, other = results.present(study)
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
    listed = groups(settings, cells)
    against = [group for group in listed if group.method not in (BASELINE, SFT)]
    gaps = differences(against)
    order = list(dict.fromkeys(group.setting for group in listed))
    parts = [
        f"**Against {title(BASELINE)}, paired by seed**",
        rendered([{key: text for key, text in row.items() if key not in DETAILS} for row in gaps]),
        verdicts(against),
        f"**Settings in which a method is not better than {title(BASELINE)}**, by the interval over seeds",
        shortfalls(against),
        scales(order, cells),
        "**The same differences: effect sizes and other metrics**",
        rendered([{key: row[key] for key in ("setting", "method", *DETAILS) if key in row} for row in gaps]),
    ]
    if compared := predictions.compare(order, cells):
        parts += ["**Bone Soup's interior gain, as predicted from the specialists**", predictions.markdown(compared)]
    if told := predictions.soups(order, cells):
        parts += ["**Every soup's gain, as predicted from the specialists**", rendered(told), predictions.CAVEAT]
    parts += ["**Levels**", rendered(levels(listed)), "**Costs**", rendered(costs(listed)), notes(cells)]
    return "\n\n".join(part for part in parts if part) + "\n"


def groups(settings: list[str], cells: list[dict]) -> list[Group]:
    present = {cell["setting"]: [] for cell in cells}
    for cell in cells:
        present[cell["setting"]].append(cell)
    order = [name for name in settings if name in present] + [name for name in present if name not in settings]
    listed = []
    for setting in order:
        grids = list(present[setting][0]["grids"])
        methods = {method for cell in present[setting] for grid in cell["grids"].values() for method in _methods(grid)}
        for method in sorted(methods, key=lambda m: (list(METHODS).index(m) if m in METHODS else len(METHODS), m)):
            having = {
                grid: tuple(c for c in present[setting] if method in _methods(c["grids"].get(grid, {})))
                for grid in grids
            }
            grid = next(grid for grid in grids if having[grid])
            listed.append(Group(setting, method, having[grid], grid))
    return listed


def _methods(grid: dict) -> set[str]:
    return {method for unit in UNITS for method in grid.get(unit, {}).get("methods", {})}


def differences(compared: list[Group]) -> list[dict[str, str]]:
    """Return the rows of the main table."""
    return [_difference(group, _mark(group)) for group in compared]


def _difference(group: Group, mark: str) -> dict[str, str]:
    truest = _unit(group)
    row = {"setting": group.setting, "method": title(group.method) + mark, "seeds": str(len(group.cells))}
    for unit in UNITS:
        values = group.values(unit, DIFFERENCES, INTERIOR)
        score = UNITS[unit].partition(" ")[0]
        row[f"Interior, {score}"] = over_seeds(INTERIOR, values, signed=True)
        row[f"d_z, {score}"] = _effect(values)
        if unit == "gold":
            row["prompts ±"] = NONE if truest == "reward" else _prompts(group.values(truest, DIFFERENCES, INTERIOR))
    for unit in ("gold", "judge"):
        row[f"survives in {unit}"] = survival(group, unit)
    row["to the oracle"] = _to_oracle(group, truest)
    for heading, metric in COMPARED.items():
        row[heading] = over_seeds(metric, group.values(truest, DIFFERENCES, metric), signed=True)
    for heading, metric in zip_longest(("HV ratio", "above the second"), _volumes(group)[:2]):
        row[heading] = _ratio(group, truest, metric) if metric else NONE
    return row


def survival(group: Group, unit: str) -> str:
    """Return the share of the interior gain in learned reward that another unit confirms; empty without a sure gain."""
    learned = group.values("reward", DIFFERENCES, INTERIOR)
    truer = group.values(unit, DIFFERENCES, INTERIOR)
    if not truer or not learned or mean([v[0] for v in learned]).sign <= 0:
        return NONE
    return f"{mean([v[0] for v in truer]).value / mean([v[0] for v in learned]).value:.0%}".replace("-", "−")


def _to_oracle(group: Group, unit: str) -> str:
    """Return the interior difference to the oracle, on the oracle's grid, paired by seed."""
    gaps = []
    for cell in group.cells:
        for grid in cell["grids"].values():
            methods = grid.get(unit, {}).get(DIFFERENCES, {})
            value, best = (methods.get(method, {}).get(INTERIOR) for method in (group.method, ORACLE))
            if value and best and group.method != ORACLE:
                gaps.append(value[0] - best[0])
    return written(INTERIOR, mean(gaps), signed=True) if gaps else NONE


def _ratio(group: Group, unit: str, metric: str) -> str:
    values = group.values(unit, RATIOS, metric)
    ratio = geometric([value[0] for value in values]) if values else None
    if ratio is None:
        return NONE
    text = f"×{ratio[0]:.3f}"
    return text if len(values) == 1 else f"{text} [{ratio[1]:.3f}, {ratio[2]:.3f}]"


def levels(compared: list[Group]) -> list[dict[str, str]]:
    rows = []
    for group in compared:
        unit = _unit(group)
        row = {"setting": group.setting, "method": title(group.method) + _mark(group), "seeds": str(len(group.cells))}
        row |= {label(metric): over_seeds(metric, group.values(unit, "methods", metric)) for metric in LEVELS}
        volume = _volumes(group)[0]
        row["HV"] = over_seeds(volume, group.values(unit, "methods", volume))
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


def verdicts(compared: list[Group]) -> str:
    """Write a line per method: whether its interior difference is certain over seeds, and in how many single cells."""
    lines = []
    for method in dict.fromkeys(group.method for group in compared):
        where: dict[str, list[str]] = {"better": [], "no clear difference": [], "worse": [], "one seed only": []}
        inside: list[list[float]] = []
        whole: list[list[float]] = []
        for group in (group for group in compared if group.method == method):
            values = group.values(_unit(group), DIFFERENCES, INTERIOR)
            inside += values
            whole += group.values(_unit(group), DIFFERENCES, COMPARED["Whole grid"])
            if values:
                gap = mean([value[0] for value in values])
                words = {1: "better", 0: "no clear difference", -1: "worse"}[gap.sign]
                where[words if gap.half is not None else "one seed only"].append(group.setting)
        words = "; ".join(f"{verdict} in {', '.join(names)}" for verdict, names in where.items() if names)
        lines.append(
            f"- {title(method)} at interior preferences: {words.replace('only in', 'only:')}. Within single cells, "
            f"over prompts: {_counted(inside)}; over the whole grid {_counted(whole)}."
        )
    return "\n".join(lines)


def shortfalls(compared: list[Group]) -> str:
    """Write a line per method: every setting in which it is not better, by region, with the difference where worse."""
    lines = []
    for method in dict.fromkeys(group.method for group in compared):
        groups = [group for group in compared if group.method == method]
        parts = [_shortfall(groups, region, metric) for region, metric in REGIONS.items()]
        lines.append(f"- {title(method)}: {'; '.join(parts)}.")
    return "\n".join(lines)


def _shortfall(groups: list[Group], region: str, metric: str) -> str:
    named: dict[str, list[str]] = {"worse": [], "level": [], "one seed only": []}
    known = 0
    for group in groups:
        if values := group.values(_unit(group), DIFFERENCES, metric):
            gap, known = mean([value[0] for value in values]), known + 1
            if gap.half is None:
                named["one seed only"].append(group.setting)
            elif gap.sign < 0:
                named["worse"].append(f"{group.setting} {written(metric, gap, signed=True)}")
            elif gap.sign == 0:
                named["level"].append(group.setting)
    words = "; ".join(f"{verdict}: {', '.join(names)}" for verdict, names in named.items() if names)
    return f"{sum(map(len, named.values()))} of {known} {region}" + (f" ({words})" if words else "")


def _counted(values: list[list[float]]) -> str:
    ahead, behind = sum(low > 0 for _, low, _ in values), sum(high < 0 for _, _, high in values)
    return f"ahead in {ahead} of {len(values)}, behind in {behind}"


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
        f"{len(cells)} cells, seeds {', '.join(map(str, seeds))}, {', '.join(map(str, prompts))} test prompts each. "
        f"Scores are in SFT standard deviations, gold where it is known, else {'the judge, else ' * judged}learned.\n\n"
        "- ±: half a 95% t interval over seeds; differences are paired by seed.\n"
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


def _unit(group: Group) -> str:
    return next(unit for unit in UNITS if all(unit in cell["grids"][group.grid] for cell in group.cells))


def _volumes(group: Group) -> list[str]:
    """Name the hypervolume metrics, one for each reference point."""
    methods = group.cells[0]["grids"][group.grid][_unit(group)]["methods"]
    return [metric for metric in methods[group.method] if metric.startswith("hypervolume@")]


def _mark(group: Group) -> str:
    return "" if group.grid == next(iter(group.cells[0]["grids"])) else " †"


def _effect(values: list[list[float]]) -> str:
    effect = mean([value[0] for value in values]).effect if values else None
    return NONE if effect is None else f"{effect:+.1f}".replace("-", "−")


def _prompts(values: list[list[float]]) -> str:
    return f"{mean([(high - low) / 2 for _, low, high in values]).value:.3f}" if values else NONE
