"""Measure a reward on rows that it was not trained on."""

import numpy as np
from scipy.stats import binomtest, pearsonr

from bonesoup.rewards.score import Reward

REMEDY = "raise data.validation, or data.test for a reward of kind head"


def held_out(reward: Reward, rows: list[dict]) -> dict:
    """Measure the accuracy of a reward on held-out rows, with a 95% Clopper-Pearson interval.

    For pairs, the share whose chosen response scores higher. For labelled responses, the share of pairs of rows with
    different labels that the score orders as the labels do (each row is paired once), and Pearson's r.

    Raises:
        ValueError: there are no rows, or no two with different labels.
    """
    if not rows:
        raise ValueError(f"reward {reward.objective}: no held-out rows to measure it on; {REMEDY}")
    prompts = [row["prompt"] for row in rows]
    if "chosen" in rows[0]:
        better = reward.score(prompts, [row["chosen"] for row in rows])
        worse = reward.score(prompts, [row["rejected"] for row in rows])
        return _accuracy(better - worse)
    scores = reward.score(prompts, [row["response"] for row in rows])
    labels = np.array([row["label"] for row in rows], float)
    order = np.random.default_rng(0).permutation(len(rows))
    first, second = order[: len(order) // 2], order[len(order) // 2 :][: len(order) // 2]
    unlike = labels[first] != labels[second]
    if not unlike.any():
        raise ValueError(f"reward {reward.objective}: no two held-out rows with different labels; {REMEDY}")
    signs = np.sign(labels[first] - labels[second])[unlike]
    report = _accuracy(signs * (scores[first] - scores[second])[unlike])
    varied = len(rows) > 2 and scores.std() > 0
    return report | {"correlation": float(pearsonr(scores, labels).statistic) if varied else 0.0}


def _accuracy(margins: np.ndarray) -> dict:
    """Return the share of positive margins with its interval; ties are wrong."""
    n, right = len(margins), int((margins > 0).sum())
    interval = binomtest(right, n).proportion_ci(confidence_level=0.95)
    return {"accuracy": right / n, "accuracy_low": interval.low, "accuracy_high": interval.high, "n": n}
