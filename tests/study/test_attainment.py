"""Attainment over seeds against fronts whose staircases are known, and what its figure leaves out."""

import numpy as np
import pytest

from bonesoup.study import attainment, results
from bonesoup.study.attainment import attained, drawn_methods, figure, heights


def stairs(shift: float, steps: int = 4) -> np.ndarray:
    """Place a front on the line y = steps - x, moved out by `shift` in both objectives."""
    x = np.arange(steps + 1.0)
    return np.stack([x, steps - x], axis=1) + shift


def test_of_nested_fronts_the_k_best_is_what_k_seeds_attain():
    fronts = [stairs(shift) for shift in (0.3, 0.0, 0.2, 0.1, 0.4)]
    for count, shift in ((1, 0.4), (2, 0.3), (3, 0.2), (4, 0.1), (5, 0.0)):
        np.testing.assert_allclose(attained(fronts, count), stairs(shift))


def test_of_crossing_fronts_all_attain_the_corner_below_both_and_any_attains_either():
    fronts = [np.array([[2.0, 1.0]]), np.array([[1.0, 3.0]])]
    np.testing.assert_allclose(attained(fronts, 2), [[1, 1]])
    np.testing.assert_allclose(attained(fronts, 1), [[1, 3], [2, 1]])


def test_attainment_agrees_with_counting_seeds_at_random_rewards():
    rng = np.random.default_rng(0)
    fronts = [rng.normal(size=(rng.integers(1, 9), 2)) for _ in range(7)]
    places = rng.normal(size=(300, 2))
    hits = sum((front[:, None] >= places).all(axis=2).any(axis=0).astype(int) for front in fronts)
    for count in range(1, 8):
        inside = heights(attained(fronts, count), places[:, 0]) >= places[:, 1]
        np.testing.assert_array_equal(inside, hits >= count)


def test_a_dominated_point_changes_nothing():
    fronts = [stairs(0.0), stairs(0.1)]
    padded = [np.vstack([front, [[0.5, 0.5]]]) for front in fronts]
    for count in (1, 2):
        np.testing.assert_array_equal(attained(padded, count), attained(fronts, count))


def test_attainment_does_not_see_which_preference_got_which_point():
    fronts = [stairs(0.0), stairs(0.1)]
    for count in (1, 2):
        np.testing.assert_array_equal(attained([front[::-1] for front in fronts], count), attained(fronts, count))


def test_nothing_is_attained_beyond_the_last_corner():
    assert heights(stairs(0.0), np.array([-1.0, 0.5, 4.0, 4.1])).tolist() == [4, 3, 0, -np.inf]


def made(seed: int, shift: float, **fronts: list) -> dict:
    methods = {"sft": [[0, 0]], "rewarded": stairs(0.0).tolist(), "bone": stairs(shift).tolist()} | fronts
    return {
        "setting": "default",
        "seed": seed,
        "objectives": ["helpful", "harmless"],
        "fronts": {"unit": "gold", "methods": methods},
    }


def test_ablations_and_methods_with_fewer_preferences_are_not_drawn():
    whole = stairs(0.1).tolist()
    cells = [made(k, 0.1, unmapped=whole, mod=whole, lattice=whole, piecewise=whole, oracle=whole[:3]) for k in (1, 2)]
    assert drawn_methods(cells) == ["rewarded", "bone", "lattice", "mod"]


def test_the_figure_has_a_panel_for_each_rival_and_a_step_at_each_corner():
    drawing = figure([made(k, shift) for k, shift in enumerate((0.1, 0.2, 0.3))])
    (panel,) = drawing.axes
    _, bone = panel.lines
    assert [line.get_label() for line in panel.lines] == ["Rewarded Soup", "Bone Soup"]
    # The border of half of the seeds is the second front of three.
    x, y = bone.get_data()
    for place in (0.0, 0.7, 1.9, 4.1):
        assert y[np.searchsorted(x, place)] == pytest.approx(heights(stairs(0.2), np.array([place]))[0])
    assert len(panel.collections) == 2


def test_what_cannot_be_drawn_is_said(plan):
    with pytest.raises(ValueError, match="no cell of kl-low is finished: `bonesoup study small --settings kl-low`"):
        attainment.write("small", "kl-low", plan)
    cells = [made(k, 0.1) for k in (1, 2)]
    del cells[0]["fronts"]
    with pytest.raises(ValueError, match="default: .* two seeds or more, and 1 of 2 cells keep theirs"):
        figure(cells)
    with pytest.raises(ValueError, match="two objectives, found 3"):
        figure([made(1, 0.1) | {"objectives": ["a", "b", "c"]}])


def test_a_result_keeps_the_fronts_and_the_command_draws_them(cell, tmp_path):
    from typer.testing import CliRunner

    from bonesoup.cli.main import app

    for seed in (3, 5):
        cell("default", seed, 0.1, 0.05)
    kept, _ = results.read("small")
    assert kept["fronts"] == {
        "unit": "gold",
        "methods": {"sft": [[0.0, 0.0]], "rewarded": [[0.0, 1.0], [1.0, 0.0]], "bone": [[0.05, 1.05], [1.05, 0.05]]},
    }
    result = CliRunner().invoke(app, ["study", "small", "--figure", "bands.png"])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "bands.png").read_bytes().startswith(b"\x89PNG")
