"""front@METHOD: answer the test prompts at every preference of a method, and score the answers."""

from bonesoup.evaluation.front_rows import load_prompts, rows_of_run, summarise
from bonesoup.evaluation.kept import kept
from bonesoup.files import appearing, write_json
from bonesoup.generation.soup import Soup, SoupModel
from bonesoup.paths import FRONTS, SOUPS
from bonesoup.settings.schema import Settings


def run(settings: Settings, key: str) -> None:
    soup = Soup.read(SOUPS / f"{key}.json")
    prompts = load_prompts("test", settings.evaluation.samples)
    if len(prompts) < settings.evaluation.samples:
        wanted = settings.evaluation.samples
        print(f"front@{key}: the test split has {len(prompts)} prompts, fewer than evaluation.samples = {wanted}")
    with kept(settings, soup, prompts) as place:
        rows = rows_of_run(settings, SoupModel.load(soup, settings.device), prompts, kept=place)
        with appearing(FRONTS / key) as folder:
            folder.mkdir()
            rows.to_parquet(folder / "samples.parquet", index=False)
            write_json(folder / "front.json", summarise(soup, rows))
