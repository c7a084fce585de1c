"""choose: the method whose soup is registered and served; with `register.method: auto`, by validation prompts."""

from contextlib import ExitStack

from bonesoup.files import write_json
from bonesoup.method.methods import AUTO, servable, title
from bonesoup.paths import CHOICE, SOUPS
from bonesoup.settings.schema import Settings


def run(settings: Settings, key: None) -> None:
    wanted, candidates = settings.register_, servable(settings.methods)
    if wanted.method != AUTO or len(candidates) == 1:
        method = candidates[0] if wanted.method == AUTO else wanted.method
        print(f"choose: {method}: " + ("the only soup" if wanted.method == AUTO else "named by register.method"))
        write_json(CHOICE, {"method": method, "prompts": 0, "candidates": []})
        return
    with ExitStack() as work:
        write_json(CHOICE, _compared(settings, candidates, work))


def _compared(settings: Settings, candidates: list[str], work: ExitStack) -> dict:
    """Return the choice and the table it rests on.

    Args:
        work: ends once the choice is written; until then what was measured is kept for another try.
    """
    from bonesoup.evaluation.choices import choose_method
    from bonesoup.evaluation.front_rows import load_prompts, load_scorer, rows_of_run
    from bonesoup.evaluation.kept import kept
    from bonesoup.evaluation.samples import front_of
    from bonesoup.evaluation.statistics import Statistics
    from bonesoup.generation.soup import Soup, SoupModel

    prompts, scorer, fronts = load_prompts("validation", settings.register_.samples), load_scorer(settings), []
    for method in candidates:
        soup = Soup.read(SOUPS / f"{method}.json")
        place = work.enter_context(kept(settings, soup, prompts))
        rows = rows_of_run(settings, SoupModel.load(soup, settings.device), prompts, scorer, place)
        fronts.append(front_of(rows, method, settings.objectives))
    method, table = choose_method(fronts, Statistics.of(settings))
    for row in table[1:]:
        gain = row["gain"]
        print(
            f"choose: {row['method']}: utility {row['utility']:.3f}, against {candidates[0]} "
            f"{gain['value']:+.3f} [{gain['low']:+.3f}, {gain['high']:+.3f}]"
        )
    reason = "nothing is distinguishably better" if method == candidates[0] else "distinguishably better, and the best"
    print(f"choose: {title(method)}: {reason}, on {len(prompts)} validation prompts")
    return {"method": method, "prompts": len(prompts), "candidates": table}
