"""Fit reward heads: linear layers on features of the frozen base, in seconds.

Pairs give a Bradley-Terry head (logistic regression on differences of features), labels a ridge regression. Layer and
penalty are chosen on validation rows; the accuracy is measured on test rows. A second head, the judge, is fitted on
other prompts and no policy is trained against it: if a policy's score rises and the judge's does not follow, the
reward is being gamed.
"""

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from bonesoup.files import digest
from bonesoup.rewards.features import features
from bonesoup.rewards.head import Head

PENALTIES = (0.0001, 0.001, 0.01, 0.1, 1.0)  # penalty on the squared weight, per row, on features of unit variance


def parted(rows: list[dict], share: float) -> tuple[list[dict], list[dict]]:
    """Split rows by their prompt alone between the reward and its judge, which gets `share` of the prompts."""
    reward, judge = [], []
    for row in rows:
        place = int(digest("judge", row["prompt"]), 16) / 16**16
        (judge if place < share else reward).append(row)
    return reward, judge


def fit(base: Path, train: list[dict], validation: list[dict], kept: Path, device: str, name: str) -> Head:
    """Fit a head on `train`, with layer and penalty chosen by the loss on `validation`.

    Args:
        train, validation: pairs or labelled responses.
        kept, device, name: see `features`.

    Raises:
        ValueError: there are no rows to fit or to choose on, or all are alike.
    """
    if not train or not validation:
        raise ValueError(f"{name}: {len(train)} train and {len(validation)} validation rows; a head needs both")
    pairs = "chosen" in train[0]
    columns = ("chosen", "rejected") if pairs else ("response",)
    rows = [*train, *validation]
    prompts = [row["prompt"] for _ in columns for row in rows]
    layers, values = features(base, prompts, [row[column] for column in columns for row in rows], kept, device, name)
    # [column, row, layer, hidden]
    values = values.reshape(len(columns), len(rows), *values.shape[1:]).astype(float)
    labels = None if pairs else np.array([row["label"] for row in rows], float)
    n = len(train)
    fitted = [
        (loss, Head(layer, *head))
        for k, layer in enumerate(layers)
        for head, loss in _candidates(values[:, :, k], labels, n)
    ]
    if not fitted:
        raise ValueError(f"{name}: all {n} train rows are alike: there is nothing to fit a head to")
    return min(fitted, key=lambda candidate: candidate[0])[1]


def _candidates(
    values: np.ndarray, labels: np.ndarray | None, n: int
) -> Iterator[tuple[tuple[list[float], float, float], float]]:
    """Fit every penalty on the first n rows of values [column, row, hidden]; yield ((weight, bias, penalty), loss)."""
    # Imported here, since it takes 2 s and only fitting needs it.
    from sklearn.linear_model import LogisticRegression, Ridge

    train = values[:, :n].reshape(-1, values.shape[-1])
    mean, scale = train.mean(0), train.std(0) + 1e-6
    scaled = (values - mean) / scale
    for penalty in PENALTIES:
        if labels is None:
            margins = scaled[0] - scaled[1]
            # A pair and its mirror image: the classes are balanced, and the fit needs no intercept.
            both, sides = np.concatenate([margins[:n], -margins[:n]]), np.repeat([1, 0], n)
            model = LogisticRegression(C=1 / (2 * n * penalty), fit_intercept=False, max_iter=1000).fit(both, sides)
            weight = model.coef_[0]
            loss = np.logaddexp(0, -margins[n:] @ weight).mean()
        else:
            model = Ridge(alpha=n * penalty).fit(scaled[0, :n], labels[:n])
            weight = model.coef_
            loss = np.square(model.predict(scaled[0, n:]) - labels[n:]).mean()
        spread = (scaled[:, :n] @ weight).std()
        if spread > 0:
            weight = weight / scale / spread
            yield (weight.tolist(), float(-mean @ weight), penalty), float(loss if math.isfinite(loss) else math.inf)
