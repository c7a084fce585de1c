"""The reference point decides between a long front and a bulged one."""

import numpy as np
import pytest

from bonesoup.evaluation.metrics.reference import SHARES, hypervolume_ratios, reference_points

LONG = np.array([[0.0, 1.0], [0.45, 0.45], [1.0, 0.0]])
BULGED = np.array([[0.4, 0.9], [0.7, 0.7], [0.9, 0.4]])


def test_reference_points_go_down_from_the_worst_of_the_union_front():
    found = reference_points([LONG, BULGED, np.array([[-9.0, -9.0]])])
    np.testing.assert_allclose(found, -np.array(SHARES)[:, None] * np.ones(2))


def test_ratios_move_with_the_reference_point():
    ratios = hypervolume_ratios({"long": LONG, "bulged": BULGED}, "long", np.array([[0.0, 0.0], [-9.0, -9.0]]))
    assert ratios["long"] == [1, 1]
    assert ratios["bulged"][0] == pytest.approx((0.4 * 0.9 + 0.3 * 0.7 + 0.2 * 0.4) / 0.45**2)
    assert ratios["bulged"][0] > 1 > ratios["bulged"][1]
    assert hypervolume_ratios({"a": BULGED, "b": LONG}, "b", np.array([[0.6, 0.6]]))["a"] == [None]
