"""probe@BETA: the first part of the full run of one beta's backbones, and its front on validation prompts."""

from bonesoup.evaluation.front_rows import load_prompts, rows_of_run
from bonesoup.evaluation.kept import kept
from bonesoup.files import appearing, read_json
from bonesoup.generation.soup import Policy, Soup, SoupModel
from bonesoup.method.preferences import lattice
from bonesoup.paths import PROBES, SFT
from bonesoup.settings.schema import Settings
from bonesoup.training.rows import train_rows


def run(settings: Settings, key: str) -> None:
    plan = read_json(PROBES / "plan.json")
    slots = {f"backbone-{k}": row for k, row in enumerate(plan["rows"][key], start=1)}
    prompts = load_prompts("validation", settings.seek.samples)
    full = settings.model_copy(update={"rl": settings.rl.lasting(plan["full"])})
    with appearing(PROBES / key) as folder:
        train_rows(full, f"probe-{key}", slots, folder, until=plan["steps"])
        grid = lattice(len(settings.objectives), settings.evaluation.parts).tolist()
        policies = tuple(Policy(slot, folder / slot, tuple(row)) for slot, row in slots.items())
        soup = Soup(f"beta={key}", SFT, tuple(settings.objectives), "solve", policies, tuple(map(tuple, grid)))
        with kept(settings, soup, prompts) as place:
            rows = rows_of_run(settings, SoupModel.load(soup, settings.device), prompts, kept=place)
            rows.to_parquet(folder / "samples.parquet", index=False)
