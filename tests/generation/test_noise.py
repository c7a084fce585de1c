"""A token's noise is its row's; drawing for the likely tokens alone is an exact sample."""

import numpy as np
import pytest
import torch
from scipy.stats import chisquare, kstest

from bonesoup.generation import noise
from bonesoup.generation.noise import LIKELY, SMALL, Noise, draw, gumbel

VOCABULARY = 3 * SMALL


def seeded(rows: int, width: int, spread: float = 3.0) -> torch.Tensor:
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(0)) * spread


def test_a_small_vocabulary_draws_the_noise_of_torchs_generator():
    """Results on small vocabularies must not change with the way noise is drawn for large ones."""
    logits = seeded(3, 100)
    rows = [Noise(seed) for seed in (5, 6, 7)]
    generators = [torch.Generator().manual_seed(seed) for seed in (5, 6, 7)]
    for _ in range(4):
        exponential = torch.stack([torch.empty(100).exponential_(generator=g) for g in generators])
        assert torch.equal(draw(logits, rows), (logits - exponential.log()).argmax(-1))


@pytest.mark.parametrize("width", [100, VOCABULARY])
def test_a_row_draws_alike_in_any_company(width):
    logits = seeded(4, width)
    together = [Noise(seed) for seed in range(4)]
    alone = Noise(2)
    for _ in range(3):
        assert draw(logits, together)[2] == draw(logits[2:3], [alone])[0]


@pytest.mark.parametrize("spread", [0.01, 3.0], ids=["flat: mostly the rest", "peaked"])
def test_samples_of_a_large_vocabulary_have_its_probabilities(spread):
    """Chi-squared over 20,000 draws, in bins of about equal probability; each likely word has a separate bin."""
    logits = seeded(1, VOCABULARY, spread)[0]
    probabilities = logits.double().softmax(-1).numpy()
    order = np.argsort(-probabilities)
    bins = np.empty(VOCABULARY, int)
    bins[order] = np.minimum((probabilities[order].cumsum() * 40).astype(int), 39)
    counts = np.zeros(40)
    draws = 20_000
    for start in range(0, draws, 100):
        tokens = draw(logits.expand(100, -1), [Noise(start + i) for i in range(100)])
        counts += np.bincount(bins[tokens.numpy()], minlength=40)
    expected = np.bincount(bins, probabilities, minlength=40)
    kept = expected > 0
    assert chisquare(counts[kept], expected[kept] / expected.sum() * draws).pvalue > 1e-3
    if spread < 1:
        assert probabilities[order[:LIKELY]].sum() < 0.01


def test_the_noise_is_gumbel_and_independent_of_seed_step_and_token():
    shapes = [
        gumbel([(seed, 0) for seed in range(20_000)], np.zeros((20_000, 1), int)),
        gumbel([(1, step) for step in range(20_000)], np.zeros((20_000, 1), int)),
        gumbel([(1, 0)], np.arange(20_000)[None]),
    ]
    for values in shapes:
        assert kstest(values.ravel(), "gumbel_r").pvalue > 1e-3
    pairs = gumbel([(seed, step) for seed in range(100) for step in range(100)], np.tile(np.arange(4), (10_000, 1)))
    correlations = np.corrcoef(pairs, rowvar=False)[np.triu_indices(4, 1)]
    assert np.abs(correlations).max() < 0.04


def test_two_policies_with_one_seed_mostly_draw_alike():
    """With slightly different logits a few of a hundred draws differ; with independent noise most would."""
    logits = seeded(1, VOCABULARY).expand(400, -1)
    other = logits + 0.05 * torch.randn(VOCABULARY, generator=torch.Generator().manual_seed(1))
    tokens = [draw(values, [Noise(seed) for seed in range(400)]) for values in (logits, other)]
    stranger = draw(logits, [Noise(1000 + seed) for seed in range(400)])
    assert (tokens[0] != tokens[1]).float().mean() < 0.15
    assert (tokens[0] != stranger).float().mean() > 0.5


def test_ruled_out_words_are_never_drawn(monkeypatch):
    logits = torch.full((50, VOCABULARY), -torch.inf)
    logits[:, [7, VOCABULARY - 1]] = 0.0
    tokens = draw(logits, [Noise(seed) for seed in range(50)])
    assert set(tokens.tolist()) == {7, VOCABULARY - 1}
    monkeypatch.setattr(noise, "LIKELY", 1)
    again = draw(logits, [Noise(seed) for seed in range(50)])
    assert set(again.tolist()) == {7, VOCABULARY - 1}
