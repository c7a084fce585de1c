"""A method's front: responses to the same prompts, with the same noise, at every preference, and their scores."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import count, takewhile
from pathlib import Path

import numpy as np
import pandas as pd

from bonesoup.data.gold import gold_scorer
from bonesoup.files import read_json, read_jsonl, write_json
from bonesoup.generation.sample import Response, log_probabilities
from bonesoup.generation.soup import Soup, SoupModel
from bonesoup.generation.sweep import sweep
from bonesoup.paths import NORMALISER, PROMPTS, REWARDS
from bonesoup.progress import Throttle
from bonesoup.rewards.normalise import Normaliser
from bonesoup.rewards.score import Messages, judge_folders, load_rewards, score_all
from bonesoup.settings import schema

# Maps (prompts, responses) to raw scores [batch, objective].
Scores = Callable[[list[Messages], list[str]], np.ndarray]


@dataclass(frozen=True)
class Measure:
    """A score of responses, and its scale."""

    scores: Scores
    normaliser: Normaliser


@dataclass(frozen=True)
class Scorer:
    """The learned rewards, their judges if there are any, and the true score where the task knows it.

    Attributes:
        measures: by unit, see `units.UNITS`.
    """

    objectives: tuple[str, ...]
    measures: dict[str, Measure]

    def columns(self, prompts: list[Messages], texts: list[str]) -> dict[str, np.ndarray]:
        """Return <unit>_<objective> for every unit, in SFT standard deviations, each [batch]."""
        table = {}
        for unit, measure in self.measures.items():
            table |= _columns(unit, self.objectives, measure.normaliser(measure.scores(prompts, texts)))
        return table


def scorer_of(
    objectives: tuple[str, ...],
    folders: list[Path],
    scale: dict,
    gold: Scores | None,
    device: str,
) -> Scorer:
    """Load the rewards in `folders`, one an objective, and what judges them.

    Args:
        scale: {"mean", "std"} of the rewards, and the same under "judge" and "gold" where there are such scores.
        gold: the true scores, where the task knows them.
    """
    judges = judge_folders(folders) if scale.get("judge") else []
    # Loaded together: a reward head and its judge share the base, and its features of a batch.
    rewards = load_rewards([*folders, *judges], device)

    measures = {"reward": Measure(partial(score_all, rewards[: len(folders)]), Normaliser.of(scale))}
    if judges:
        measures["judge"] = Measure(partial(score_all, rewards[len(folders) :]), Normaliser.of(scale["judge"]))
    if gold:
        measures["gold"] = Measure(gold, Normaliser.of(scale["gold"]))
    return Scorer(objectives, measures)


def load_prompts(split: str, count: int) -> list[dict]:
    """Read the first `count` prompts of a split (train, validation, test), or all if there are fewer."""
    return [row for row in read_jsonl(PROMPTS) if row["split"] == split][:count]


def load_scorer(settings: schema.Settings) -> Scorer:
    """Load what scores the responses of this run."""
    names = tuple(settings.objectives)
    gold = gold_scorer(settings.data.source, settings.objectives, settings.data.path)
    return scorer_of(names, [REWARDS / name for name in names], read_json(NORMALISER), gold, settings.device)


def _columns(prefix: str, names: tuple[str, ...], values: np.ndarray) -> dict[str, np.ndarray]:
    return {f"{prefix}_{name}": values[:, i] for i, name in enumerate(names)}


def rows_of_run(
    settings: schema.Settings,
    policy: SoupModel,
    prompts: list[dict],
    scorer: Scorer | None = None,
    kept: Path | None = None,
) -> pd.DataFrame:
    """Return `front_rows` with the generation, batch, seed and, unless `scorer` is given, rewards of a run."""
    return front_rows(
        policy,
        prompts,
        scorer or load_scorer(settings),
        settings.generation,
        settings.evaluation.batch,
        settings.seed,
        kept,
    )


def front_rows(
    policy: SoupModel,
    prompts: list[dict],
    scorer: Scorer,
    generation: schema.Generation,
    batch: int,
    seed: int,
    kept: Path | None = None,
) -> pd.DataFrame:
    """Sample and score one row per preference and prompt; a prompt has the same noise at all preferences and methods.

    The SFT policy gives every preference the same answer, so it is sampled once, as point 0.

    Args:
        batch: rows at once.
        kept: folder of what an earlier call with the same inputs has done; see `kept.kept`.
    """
    messages = [row["prompt"] for row in prompts]
    seeds = [(seed + 1) * 7_000_003 + i for i in range(len(prompts))]
    points = policy.soup.preferences[:1] if policy.soup.mapping == "none" else policy.soup.preferences
    parts = _scored_parts(policy, points, messages, seeds, scorer, generation, batch, kept)
    responses = [Response(**response) for part in parts for response in part["responses"]]
    likelihoods = np.concatenate([part["log_probs"] for part in parts])
    scores = [pd.DataFrame(part["scores"]) for part in parts]
    base = _base_likelihoods(policy, messages * len(points), responses, batch, generation.temperature, kept)
    point = np.repeat(np.arange(len(points)), len(prompts))
    table = {
        "method": policy.soup.method,
        "point": point,
        "prompt_id": [row["id"] for row in prompts] * len(points),
        "prompt": [prompt[-1]["content"] for prompt in messages] * len(points),
        "response": [response.text for response in responses],
        "tokens": [len(response.token_ids) for response in responses],
        "finished": [response.finished for response in responses],
        "kl": likelihoods - base,
    }
    table |= _columns("mu", scorer.objectives, np.array(points, float)[point])
    return pd.DataFrame(table).join(pd.concat(scores, ignore_index=True))


def _scored_parts(
    policy: SoupModel,
    points: Sequence[Sequence[float]],
    messages: list[Messages],
    seeds: list[int],
    scorer: Scorer,
    generation: schema.Generation,
    batch: int,
    kept: Path | None,
) -> list[dict]:
    """Sample and score every prompt at every point; parts {"responses", "log_probs", "scores"} that are kept stay."""
    coefficients = np.array([policy.coefficients(point) for point in points])
    temperature, length = generation.temperature, generation.max_new_tokens
    parts, throttle = _read(kept), Throttle()
    if parts:
        print(f"front@{policy.soup.method}: resuming after {len(parts)} parts", flush=True)
    contexts, skip = policy.soup.contexts(points), len(parts)
    for rows, sampled, log_probs in sweep(
        policy, coefficients, messages, seeds, temperature, length, batch, contexts, skip, likelihoods=True
    ):
        columns = scorer.columns([messages[row % len(messages)] for row in rows], [each.text for each in sampled])
        part = {
            "responses": [asdict(response) for response in sampled],
            "log_probs": log_probs.tolist(),
            "scores": {name: values.tolist() for name, values in columns.items()},
        }
        if kept:
            write_json(_part(kept, len(parts)), part)
        parts.append(part)
        done = (rows[-1] + 1) // len(messages)
        if throttle.ready() or done == len(points):
            print(f"front@{policy.soup.method}: point {done}/{len(points)}", flush=True)
    return parts


def _part(kept: Path, k: int) -> Path:
    return kept / f"part-{k:05}.json"


def _read(kept: Path | None) -> list[dict]:
    """Read the parts that are there, from the first up to a gap."""
    files = (_part(kept, k) for k in count()) if kept else ()
    return [read_json(file) for file in takewhile(Path.is_file, files)]


def _base_likelihoods(
    policy: SoupModel,
    messages: list[Messages],
    responses: list[Response],
    batch: int,
    temperature: float,
    kept: Path | None,
) -> np.ndarray:
    """Return the log-probability of each response under the SFT policy, in nats [row], float64."""
    sft, values = _sft(policy), []
    for start in range(0, len(responses), batch):
        file = kept / f"base-{start:07}.json" if kept else None
        if file and file.is_file():
            values += read_json(file)
            continue
        rows = slice(start, start + batch)
        part = log_probabilities(sft.model, sft.tokenizer, messages[rows], responses[rows], batch, temperature)
        if file:
            write_json(file, part.tolist())
        values += part.tolist()
    return np.array(values)


def _sft(policy: SoupModel) -> SoupModel:
    """Return the policy that the KL is measured to: this one without its adapters if its base is the SFT policy."""
    soup = policy.soup
    if soup.reference:
        return SoupModel.load(replace(soup, base=soup.reference, mapping="none"), policy.model.device)
    policy.base_alone()
    return policy


def summarise(soup: Soup, rows: pd.DataFrame) -> dict:
    """Return the content of front.json: the means of every point."""
    means = rows.groupby("point")[[c for c in rows if rows[c].dtype.kind in "fib" and c != "point"]].mean()
    points = [list(soup.preferences[i]) for i in means.index]

    def table(prefix: str) -> list[list[float]] | None:
        columns = [f"{prefix}_{name}" for name in soup.objectives]
        return means[columns].to_numpy().tolist() if columns[0] in means else None

    summary = {
        "method": soup.method,
        "preferences": points,
        "coefficients": [soup.coefficients(point).tolist() for point in points],
        "reward": table("reward"),
        "gold": table("gold"),
        "kl": means["kl"].tolist(),
        "length": means["tokens"].tolist(),
        "finished": means["finished"].tolist(),
    }
    return summary | ({"judge": judge} if (judge := table("judge")) else {})
