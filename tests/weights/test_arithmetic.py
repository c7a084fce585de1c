"""Conversions against torch's on every sixteen-bit pattern, and the errors for values that do not fit."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bonesoup.weights.arithmetic import check_range, decode, encode

TORCH = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}


@pytest.mark.parametrize("dtype", ["BF16", "F16"])
def test_every_pattern_is_read_as_torch_reads_it_and_written_back(dtype):
    patterns = np.arange(1 << 16, dtype=np.uint16)
    expected = torch.from_numpy(patterns.view(np.int16)).view(TORCH[dtype]).float().numpy()
    values = np.empty(1 << 16, np.float32)
    decode(patterns.view(np.uint8), dtype, values)
    np.testing.assert_array_equal(values, expected)
    finite = np.isfinite(values)
    raw = np.empty(2 * finite.sum(), np.uint8)
    encode(values[finite], dtype, raw)
    np.testing.assert_array_equal(raw.view(np.uint16), patterns[finite])


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=40))
@settings(max_examples=200, deadline=None)
def test_rounding_is_torchs(numbers):
    values = np.array(numbers, np.float32)
    for dtype, item in (("F32", 4), ("BF16", 2), ("F16", 2)):
        rounded = torch.from_numpy(values).to(TORCH[dtype])
        assert (check_range(values, dtype) is None) == bool(torch.isfinite(rounded).all())
        if torch.isfinite(rounded).all():
            raw = np.empty(item * len(values), np.uint8)
            encode(values.copy(), dtype, raw)
            assert raw.tobytes() == rounded.view(torch.uint8).numpy().tobytes()


def test_ties_go_to_even():
    # 1 + 2^-8 lies between two bfloat16 numbers, 1 + 3 * 2^-8 too; the even one is below, then above.
    raw = np.empty(4, np.uint8)
    encode(np.array([1 + 2**-8, 1 + 3 * 2**-8], np.float32), "BF16", raw)
    assert [hex(bits) for bits in raw.view(np.uint16)] == ["0x3f80", "0x3f82"]


@pytest.mark.parametrize(
    ("value", "dtype", "message"),
    [(np.nan, "F32", "not finite"), (np.inf, "BF16", "not finite"), (70000, "F16", "7e+04, more than float16 holds")],
)
def test_what_does_not_fit_is_said(value, dtype, message):
    assert message in check_range(np.array([0, value, 1], np.float32), dtype)
