"""A diagnosis of made-up scores whose truth is known: exact quadratics over the coefficients, plus noise by prompt."""

import io
import json

import numpy as np
import pytest
from rich.console import Console

from bonesoup.cli import show
from bonesoup.diagnose.findings import diagnose
from bonesoup.diagnose.lines import Sampled, layout
from bonesoup.method.basis import circulant, coefficients
from bonesoup.method.quadratic import asymmetry, regret_bone, regret_rewarded
from bonesoup.settings.params import load

PROMPTS = 200
KL = 0.1


@pytest.fixture
def settings():
    return load()


def sampled(curvatures, missed: float, unfinished: float = 0.0, gold: float | None = None, length: float = 2.0):
    """Place specialists at length * e_i; the run from the even soup gains `missed`, from a specialist `unfinished`."""
    n = len(curvatures)
    plan = layout(n, 0.2)
    places = length * plan.coefficients[:, :n]
    optima = length * np.eye(n)
    kl = 0.5 * (places**2).sum(axis=1)
    scores = np.stack(
        [-k * ((places - best) ** 2).sum(axis=1) + KL * kl for k, best in zip(curvatures, optima, strict=True)], axis=1
    )
    runs = plan.coefficients[:, n:]
    scores += runs[:, :1] * missed + runs[:, 1:] * unfinished
    noise = np.random.default_rng(0).normal(0, 0.3, (PROMPTS, 1, n))
    # One noise for every point of a prompt: differences are exact.
    reward = scores + noise - noise.mean(axis=0)
    kl = np.tile(kl, (PROMPTS, 1))
    return Sampled(plan, reward, None if gold is None else gold * reward, kl)


def findings(settings, data, rows=None):
    n = data.reward.shape[-1]
    names = ["helpful", "harmless", "humor"][:n]
    settings = settings.model_copy(update={"objectives": names, "rl": settings.rl.model_copy(update={"kl": KL})})
    correlation = {"reward": np.eye(n).tolist()} | ({} if data.gold is None else {"gold": np.eye(n).tolist()})
    return diagnose(settings, data, circulant(n, 0.7) if rows is None else rows, correlation, 12)


def test_layout_holds_every_line_once():
    plan = layout(3, 0.2)
    assert [(line.start, line.end) for line in plan.lines] == [
        (None, 0), (None, 1), (None, 2), (0, 1), (0, 2), (1, 2)
    ]  # fmt: skip
    assert len(np.unique(plan.coefficients, axis=0)) == len(plan.coefficients) == 1 + 3 * 4 + 3 * 3 + 1 + 4 + 3
    middle = plan.lines[3].points[2]
    assert plan.coefficients[middle].tolist() == [0.5, 0.5, 0, 0, 0, 0, 0]
    assert plan.coefficients[plan.even_run].tolist() == [1 / 3] * 3 + [1, 0, 0, 0]
    assert plan.coefficients[plan.runs[2]].tolist() == [0, 0, 1, 0, 0, 0, 1]


def test_exact_curvatures_give_their_asymmetry_and_the_scalar_theorys_gain(settings):
    document = findings(settings, sampled((1.5, 0.9), 0.2))
    (pair,) = document["pairs"]
    assert pair["asymmetry"]["value"] == pytest.approx(asymmetry(1.5, 0.9))
    spread = 2 * 2.0**2 / 4
    mu = np.linspace(0.2, 0.8, 7)
    gains = regret_rewarded(1.5, 0.9, spread, mu) - regret_bone(1.5, 0.9, spread, 0.7, mu)
    assert pair["gain"]["value"] == pytest.approx(gains.mean())
    # The KL of a point s along the line is .5 length^2 ((1 - s)^2 + s^2).
    assert pair["kl_curvature"] == pytest.approx(2.0**2)


def test_every_soup_is_predicted_with_what_a_total_of_updates_leaves_its_policies(settings):
    """A middle policy recovers all that Rewarded Soup misses, to second order; between policies piecewise misses some.

    Rewarded Soup's regret at mu goes with (1 - x^2)^2, piecewise interpolation's with (|x| (1 - |x|))^2: x = 2 mu - 1.
    """
    document = findings(settings, sampled((1, 1), 0.2))
    soups = {soup["method"]: soup for soup in document["soups"]}
    assert list(soups) == ["bone", "lattice", "piecewise", "least-norm", "curved"]
    assert soups["bone"]["reward"] == document["prediction"]["reward"]
    assert [soups[method]["steps"] for method in ("bone", "lattice", "curved")] == [[60, 60], [40] * 3, [48, 48, 24]]
    room, x = document["room"]["reward"]["value"], np.linspace(-1, 1, 11)
    grid = {method: soup["reward"]["grid"]["value"] / room for method, soup in soups.items()}
    assert grid["lattice"] == grid["curved"] == pytest.approx(((1 - x**2) ** 2).mean())
    left = (np.abs(x) * (1 - np.abs(x))) ** 2
    assert grid["piecewise"] == pytest.approx(((1 - x**2) ** 2 - left).mean())
    assert grid["least-norm"] < grid["bone"] < grid["piecewise"] < grid["lattice"]
    for method in ("lattice", "piecewise", "curved"):
        assert soups[method]["reward"]["vertices"]["value"] == pytest.approx(0, abs=1e-12)


def trained(policies: np.ndarray, coefficients: np.ndarray, optima: np.ndarray, k: np.ndarray) -> np.ndarray:
    """Score mixtures of policies [policy, weight] by -k_i |theta - optimum_i|^2: [point, objective]."""
    places = coefficients @ policies
    return -k * ((places[:, None] - optima) ** 2).sum(axis=2)


def noisy_world(settings, k: tuple[float, float], sigma: float, share: float = 0.2, beta: float = 0.75):
    """Diagnose a quadratic world with training noise, and merge the backbones that it will have.

    Policies sit at the optimum of their row plus noise of length `sigma`, that of a run of a `share` of the steps has
    the square root of it; all noise is orthogonal to everything else.

    Returns:
        Findings, and the gain of Bone Soup over Rewarded Soup at each vertex.
    """
    optima, k = np.array([[1.0, 0, *[0] * 7], [0, 1.0, *[0] * 7]]), np.array(k)

    def best(row: np.ndarray) -> np.ndarray:
        return (row * k) @ optima / (row @ k)

    noise = sigma * np.eye(9)[2:]
    specialists = optima + noise[:2]
    even = np.full(2, 0.5)
    runs = np.sqrt(share) * noise[2:5]
    # A run recovers what its start misses, and adds its noise; the specialists miss nothing.
    runs[0] += best(even) - even @ optima
    plan = layout(2, share)
    scores = trained(np.vstack([specialists, runs]), plan.coefficients, optima, k)
    data = Sampled(plan, np.tile(scores, (PROMPTS, 1, 1)), None, np.ones((PROMPTS, len(scores))))
    rows = circulant(2, beta)
    backbones = np.stack([best(row) for row in rows]) + noise[5:]
    bone = trained(backbones, coefficients(rows, np.eye(2)), optima, k)
    rewarded = trained(specialists, np.eye(2), optima, k)
    return findings(settings, data, rows), np.diag(bone - rewarded)


@pytest.mark.parametrize(("beta", "added"), [(0.65, 1 / 0.18 - 0.5), (0.7, 2.625), (0.75, 1.5), (0.9, 0.28125)])
def test_the_cost_of_extrapolation_is_exact_where_only_noise_is_amplified(settings, beta, added):
    """Equal curvatures: theory sees no loss, and (1.75, -.75) has k sigma^2 (1.75^2 + .75^2 - 1) more than one policy.

    It is measured at (1.5, -.5), and right at any other beta too.
    """
    document, came = noisy_world(settings, (1.0, 1.0), sigma=0.3, beta=beta)
    prediction = document["prediction"]["reward"]
    assert came == pytest.approx([-added * 0.3**2] * 2)
    assert document["extrapolation"]["reward"]["value"] == pytest.approx(0.3**2)
    assert prediction["vertices"]["value"] == pytest.approx(came.mean())
    # The even soup and the run from it lose by noise what a specialist and its run lose: nothing else is missed.
    assert prediction["vertices"]["value"] + prediction["extrapolating"]["vertices"] == pytest.approx(0, abs=1e-12)


def test_without_the_cost_of_extrapolation_vertices_come_out_wrong(settings):
    document, came = noisy_world(settings, (1.3, 0.8), sigma=0.2)
    prediction = document["prediction"]["reward"]
    lost = prediction["extrapolating"]["vertices"]
    assert prediction["vertices"]["value"] == pytest.approx(came.mean(), rel=0.05)
    assert prediction["vertices"]["value"] + lost > 0.5 * came.mean()
    # Without noise extrapolating costs nothing, and theory alone is right.
    document, came = noisy_world(settings, (1.3, 0.8), sigma=0.0)
    assert document["extrapolation"]["reward"]["value"] == pytest.approx(0, abs=1e-12)
    assert document["prediction"]["reward"]["vertices"]["value"] == pytest.approx(came.mean(), rel=0.15)


def test_what_short_runs_gain_decides_the_verdict(settings):
    assert findings(settings, sampled((1, 1), 0.2))["prediction"]["reward"]["verdict"] == "win"
    unfinished = findings(settings, sampled((1, 1), 0.2, unfinished=0.2))
    assert unfinished["room"]["reward"]["value"] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("gold", [None, 0.5])
def test_nothing_is_foretold_from_less_regret_than_none(settings, gold):
    document = findings(settings, sampled((1, 1), 0.1, unfinished=0.3, gold=gold))
    assert document["room"]["reward"]["value"] == pytest.approx(-0.2)
    for prediction in document["prediction"].values():
        assert (prediction["gain"], prediction["vertices"]["value"], prediction["verdict"]) == (0, 0, "tie")


@pytest.mark.parametrize("interior", [0, 0.2])
@pytest.mark.parametrize("rows", [circulant(2, 0.7), np.eye(2)])
def test_a_flat_objective_leaves_a_document(settings, interior, rows):
    settings = settings.model_copy(update={"evaluation": settings.evaluation.model_copy(update={"interior": interior})})
    for curvatures in ((-1, 1), (1, -1), (-1, -1)):
        json.dumps(findings(settings, sampled(curvatures, 0.1), rows), allow_nan=False)


def test_gold_has_the_last_word(settings):
    document = findings(settings, sampled((1, 1), 0.2, gold=-0.5))
    assert document["unit"] == "gold"
    assert document["prediction"]["reward"]["verdict"] == "win"
    assert document["verdict"].startswith("Bone Soup is predicted to lose")
    assert "gold (true) score" in document["verdict"]
    assert "learned reward" in findings(settings, sampled((1, 1), 0.2))["verdict"]


def test_a_stronger_penalty_leaves_less(settings):
    gains = [entry["gain"] for entry in findings(settings, sampled((1, 1), 0.2))["penalty"]]
    assert gains == sorted(gains, reverse=True)
    assert 0 < gains[-1] < gains[0]


def test_policies_that_did_not_move_are_no_error(settings):
    data = sampled((1, 1), 0.0, length=0.0)
    document = json.loads(json.dumps(findings(settings, data), allow_nan=False))
    assert document["prediction"]["reward"]["verdict"] == "tie"
    assert document["noise"]["prompts_needed"] is None
    assert "moved too little" in document["movement"][0]["verdict"]


def test_specialists_worse_than_the_other_at_their_own_objective_are_flat(settings):
    (pair,) = findings(settings, sampled((-1, 1), 0.1))["pairs"]
    assert (pair["k1"]["value"], pair["asymmetry"]["value"]) == (0, -1)
    assert np.isfinite(pair["gain"]["value"])


def test_a_barrier_between_policies_is_named(settings):
    data = sampled((1, 1), 0.2)
    whole = findings(settings, data)
    assert any("linearly connected" in reason for reason in whole["reasons"])
    data.reward[:, data.layout.lines[2].points[2]] -= 3
    assert any("specialist-1 to specialist-2 by" in reason for reason in findings(settings, data)["reasons"])


@pytest.mark.parametrize("curvatures", [(1, 2), (1, 2, 1.5)])
@pytest.mark.parametrize("gold", [None, 0.8])
def test_the_document_is_json_and_the_page_shows_it(settings, curvatures, gold):
    document = json.loads(json.dumps(findings(settings, sampled(curvatures, 0.2, gold=gold)), allow_nan=False))
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(show.diagnosis(document))
    text = console.export_text()
    assert "Bone Soup is predicted to win" in text
    for slot in ("specialist-1", f"specialist-{len(curvatures)}", "the even Rewarded Soup"):
        assert slot in text
    assert max(map(len, text.splitlines())) <= 120
    assert "…" not in text
    assert len(document["pairs"]) == len(curvatures) * (len(curvatures) - 1) // 2
