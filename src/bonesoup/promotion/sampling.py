"""Run a registered version on a yardstick: load its soups from its files, and have the judges score their answers."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
from mlflow.entities.model_registry import ModelVersion

from bonesoup.chat import check_context
from bonesoup.data.gold import gold_scorer
from bonesoup.evaluation.front_rows import Scorer, front_rows, scorer_of
from bonesoup.files import file_digest, read_json
from bonesoup.generation.sample import render
from bonesoup.generation.soup import Soup, SoupModel
from bonesoup.method.mappings import MAPPINGS
from bonesoup.method.methods import BASELINE, SFT
from bonesoup.method.preferences import lattice
from bonesoup.registry.manifest import download
from bonesoup.registry.yardstick import Yardstick
from bonesoup.rewards.score import source_of
from bonesoup.settings import schema


def read_recipes(version: ModelVersion, work: Path) -> dict[str, Soup]:
    """Download a version's files into `work` and return its soups by method.

    Raises:
        ValueError: a recipe names a path outside of the version's files.
    """
    files = download(version, work) / "artifacts"
    soup = Soup.read(files / "soup.json", files)
    recipes = {soup.method: soup}
    if version.tags["kind"] == "soup":
        recipes[SFT] = Soup(SFT, soup.base, soup.objectives, "none", (), soup.preferences)
        if (file := files / f"{BASELINE}.json").is_file():
            recipes[BASELINE] = Soup.read(file, files)
    return recipes


def run(soup: Soup, yardstick: Yardstick, device: str, batch: int) -> pd.DataFrame:
    """Sample and score a soup on the yardstick's prompts, at every preference of its grid; see `front_rows`.

    Raises:
        ValueError: a prompt that does not fit the model, or a judge that has changed.
    """
    if MAPPINGS[soup.mapping].answers == "any" or soup.method == SFT:
        grid = lattice(len(yardstick.objectives), yardstick.parts)
        soup = replace(soup, preferences=tuple(map(tuple, grid.tolist())))
    policy = SoupModel.load(soup, device)
    # Beyond its context a model fails, or answers nonsense.
    if context := getattr(policy.model.config, "max_position_embeddings", None):
        ids = [row["id"] for row in yardstick.prompts]
        texts = render(policy.tokenizer, [row["prompt"] for row in yardstick.prompts])
        check_context(policy.tokenizer, ids, texts, yardstick.generation["max_new_tokens"], "prompts", context)
    generation = schema.Generation(**yardstick.generation)
    return front_rows(policy, yardstick.prompts, judges(yardstick, device), generation, batch, yardstick.seed)


def judges(yardstick: Yardstick, device: str) -> Scorer:
    """Load the rewards, their judges and the true score, as far as the yardstick has them.

    Raises:
        ValueError: a reward function has changed since the yardstick was adopted.
    """
    folders = [yardstick.folders[name] for name in yardstick.objectives]
    for folder in folders:
        spec = read_json(folder / "reward.json")
        if spec["kind"] == "function" and (now := file_digest(source_of(spec["function"]))) != spec["digest"]:
            raise ValueError(
                f"the reward function {spec['function']} is not the one of the yardstick {yardstick.digest} (its file "
                f"has digest {now[:16]}, then it had {spec['digest'][:16]}): restore it, or make the present "
                "pipeline's yardstick the current one with `bonesoup yardstick --adopt`"
            )
    gold = None
    if yardstick.tables:
        gold = gold_scorer("embedded", yardstick.objectives, yardstick.tables)
    return scorer_of(yardstick.objectives, folders, yardstick.normaliser, gold, device)
