"""front@METHOD: answer the test prompts at every preference of a method, and score the answers."""

import numpy as np

from bonesoup.config import Settings
from bonesoup.data.gold import gold_scorer
from bonesoup.evaluation.front_rows import Scorer, front_rows, summarise
from bonesoup.files import appearing, read_json, read_jsonl, write_json
from bonesoup.generation.soup import Soup, SoupModel
from bonesoup.paths import FRONTS, NORMALISER, PROMPTS, REWARDS, SOUPS
from bonesoup.rewards.normalise import Normaliser
from bonesoup.rewards.score import load_rewards


def run(settings: Settings, key: str) -> None:
    soup = Soup.read(SOUPS / f"{key}.json")
    scale = read_json(NORMALISER)
    gold = scale["gold"]
    scorer = Scorer(
        objectives=tuple(settings.objectives),
        rewards=load_rewards([REWARDS / name for name in settings.objectives], settings.device),
        normaliser=Normaliser(np.array(scale["mean"]), np.array(scale["std"])),
        gold=gold_scorer(settings.data.source, settings.objectives, settings.data.path),
        gold_normaliser=Normaliser(np.array(gold["mean"]), np.array(gold["std"])) if gold else None,
    )
    prompts = [row for row in read_jsonl(PROMPTS) if row["split"] == "test"][: settings.evaluation.samples]
    if len(prompts) < settings.evaluation.samples:
        wanted = settings.evaluation.samples
        print(f"front@{key}: the test split has {len(prompts)} prompts, fewer than evaluation.samples = {wanted}")
    rows = front_rows(
        SoupModel.load(soup, settings.device),
        prompts,
        scorer,
        settings.generation,
        settings.evaluation.batch,
        settings.seed,
    )
    with appearing(FRONTS / key) as folder:
        folder.mkdir()
        rows.to_parquet(folder / "samples.parquet", index=False)
        write_json(folder / "front.json", summarise(soup, rows))
