"""scale@METHOD: the soup of a method with the extrapolation that validation prompts ask for, which may be none."""

from contextlib import ExitStack
from dataclasses import replace

import numpy as np

from bonesoup.files import read_json, write_json
from bonesoup.method.mappings import MAPPINGS
from bonesoup.paths import RECIPES, SOUPS
from bonesoup.settings.schema import Settings

# Number of preferences at which candidates are compared, spread over the grid with both ends.
POINTS = 5


def run(settings: Settings, key: str) -> None:
    recipe = read_json(RECIPES / f"{key}.json")
    with ExitStack() as work:
        steered = recipe["policies"] and not MAPPINGS[recipe["mapping"]].reads
        if len(settings.extrapolation.scales) > 1 and steered:
            recipe |= _chosen(settings, key, work)
        write_json(SOUPS / f"{key}.json", recipe)


def _chosen(settings: Settings, key: str, work: ExitStack) -> dict:
    """Return the entries `scale` [objective] and `extrapolation`, the tables it was chosen by.

    Args:
        work: ends once the choice is written; until then what was measured is kept for another try.
    """
    from bonesoup.evaluation.choices import choose_scale
    from bonesoup.evaluation.front_rows import load_prompts, load_scorer, rows_of_run
    from bonesoup.evaluation.kept import kept
    from bonesoup.evaluation.samples import front_of
    from bonesoup.evaluation.statistics import Statistics
    from bonesoup.generation.soup import Soup, SoupModel

    wanted, n = settings.extrapolation, len(settings.objectives)
    soup = Soup.read(RECIPES / f"{key}.json")
    model, scorer = SoupModel.load(soup, settings.device), load_scorer(settings)
    prompts = load_prompts("validation", wanted.samples)

    def choose(name: str, points: list) -> tuple[float, dict]:
        def front(scale: float):
            stretched = replace(soup, preferences=tuple(points), scale=(scale,) * n)
            print(f"scale@{key}: {name}: {scale:g}", flush=True)
            place = work.enter_context(kept(settings, stretched, prompts))
            rows = rows_of_run(settings, replace(model, soup=stretched), prompts, scorer, place)
            return front_of(rows, key, settings.objectives)

        scale, table = choose_scale(front, wanted.scales, wanted.kl, Statistics.of(settings))
        print(f"scale@{key}: {name}: {scale:g}" + " (none)" * (scale == 1), flush=True)
        return scale, {name: table}

    if not wanted.per_objective:
        chosen = np.linspace(0, len(soup.preferences) - 1, POINTS).round().astype(int)
        points = [soup.preferences[k] for k in dict.fromkeys(chosen.tolist())]
        scale, table = choose("all preferences", points)
        return {"scale": [scale] * n, "extrapolation": table}
    scales, tables = [1.0] * n, {}
    for i, name in enumerate(settings.objectives):
        vertex = tuple(float(k == i) for k in range(n))
        if vertex in soup.preferences:
            scales[i], table = choose(name, [vertex])
            tables |= table
    return {"scale": scales, "extrapolation": tables}
