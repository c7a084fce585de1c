"""Compression is the best of its rank: against a dense SVD, for soups of unequal ranks and negative coefficients."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bonesoup.weights.adapters import Adapter, compress, concatenate


def adapter(rank: int, seed: int, out: int = 12, width: int = 9, scale: float = 0.5) -> Adapter:
    generator = torch.Generator().manual_seed(seed)
    tensors = {
        name: (torch.randn(rank, width, generator=generator), torch.randn(out, rank, generator=generator))
        for name in ("q", "v")
    }
    return Adapter({"task_type": "CAUSAL_LM"}, tensors, {"q": scale, "v": 2 * scale})


def dense(soup: Adapter, module: str) -> torch.Tensor:
    return soup.delta(module).double()


@settings(max_examples=40, deadline=None)
@given(
    ranks=st.lists(st.integers(1, 7), min_size=1, max_size=3),
    coefficients=st.lists(st.floats(-2, 2).filter(lambda c: abs(c) > 0.05), min_size=3, max_size=3),
    kept=st.integers(1, 20),
)
def test_the_error_is_that_of_the_dense_svd(ranks, coefficients, kept):
    soup = concatenate([(adapter(rank, i), c) for i, (rank, c) in enumerate(zip(ranks, coefficients, strict=False))])
    small, errors = compress(soup, rank=kept)
    for module in soup.tensors:
        whole = dense(soup, module)
        values = torch.linalg.svdvals(whole)
        best = float(values[kept:].square().sum().sqrt() / values.square().sum().sqrt())
        error = float((dense(small, module) - whole).norm() / whole.norm())
        assert error == pytest.approx(best, abs=1e-5)
        assert errors[module] == pytest.approx(error, abs=1e-5)
        rank = len(soup.tensors[module][0])
        # No more than the weight itself can have: 9 columns.
        assert len(small.tensors[module][0]) == (rank if kept >= rank else min(kept, 9))


@settings(max_examples=30, deadline=None)
@given(st.floats(0, 0.9))
def test_a_largest_error_takes_the_smallest_rank_that_keeps_it(limit):
    soup = concatenate([(adapter(4, 0), 1.75), (adapter(3, 1), -0.75)])
    small, errors = compress(soup, max_error=limit)
    for module in soup.tensors:
        rank = len(small.tensors[module][0])
        assert errors[module] <= limit + 1e-9
        if rank > 1:
            assert compress(soup, rank=rank - 1)[1][module] > limit


def test_what_cancels_out_takes_no_rank():
    one = adapter(4, 0)
    soup = concatenate([(one, 1.0), (one, -1.0), (adapter(2, 1), 1.0)])
    small, errors = compress(soup, max_error=1e-6)
    assert {len(a) for a, _ in small.tensors.values()} == {2}
    assert max(errors.values()) < 1e-6


def test_a_rank_as_large_as_the_soups_changes_nothing():
    soup = adapter(3, 0)
    small, errors = compress(soup, rank=3)
    assert set(errors.values()) == {0.0}
    torch.testing.assert_close(dense(small, "v"), dense(soup, "v"))


def test_a_soup_that_adds_nothing_stays_nothing():
    zero = concatenate([(adapter(3, 0), 0.0)])
    small, errors = compress(zero, rank=1)
    assert not dense(small, "q").any()
    assert errors["q"] == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "and not both"),
        ({"rank": 2, "max_error": 0.1}, "and not both"),
        ({"rank": 0}, "at least 1"),
        ({"max_error": 1.0}, r"in \[0, 1\)"),
        ({"max_error": float("nan")}, r"in \[0, 1\)"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        compress(adapter(2, 0), **settings)
