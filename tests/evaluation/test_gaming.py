"""A reward is said to be gamed when its score runs away and its judge does not follow, and only then."""

import json

import numpy as np
import pytest
from rich.console import Console

from bonesoup.cli import show
from bonesoup.evaluation import gaming
from bonesoup.evaluation.compare import evaluate
from bonesoup.evaluation.markdown import markdown
from bonesoup.evaluation.samples import Front
from bonesoup.evaluation.statistics import Statistics
from bonesoup.evaluation.tables import document

PROMPTS = 200
GRID = np.array([[0.0, 1.0], [0.5, 0.5], [1.0, 0.0]])
STATISTICS = Statistics(1000, 0.95, 0)


def fronts(learned: float, judged: float, noise: float = 1.0) -> list[Front]:
    """Make SFT and a soup whose reward `a` gains `learned` times its weight and, by its judge, `judged` times.

    Reward `b` is computed, so that it is its own judge; it gains the most.
    """
    rng = np.random.default_rng(7)
    # What a prompt is worth to the reward and to its judge; both see the same answers.
    worth = rng.normal(0, 1, (PROMPTS, 1, 2, 2))

    def front(method: str, grid: np.ndarray, gain: np.ndarray) -> Front:
        """Make a front from gain [point, objective, unit]."""
        scores = worth + gain + rng.normal(0, noise, (PROMPTS, len(grid), 2, 2))
        scores[..., 1, 1] = scores[..., 1, 0]
        flat = np.ones((PROMPTS, len(grid)))
        ids = tuple(map(str, range(PROMPTS)))
        return Front(method, ("a", "b"), ids, grid, scores[..., 0], None, flat, flat, judge=scores[..., 1])

    gains = np.stack([np.outer(GRID[:, 0], [learned, judged]), np.full((3, 2), 3.0)], axis=1)
    return [front("sft", np.full((1, 2), 0.5), np.zeros((1, 2, 2))), front("bone", GRID, gains)]


@pytest.mark.parametrize(
    ("learned", "judged", "gamed"),
    [
        (2.0, 0.0, True),  # the judge stands still
        (2.0, -0.5, True),  # it falls
        (2.0, 0.6, True),  # it gains for certain, but less than half
        (2.0, 1.5, False),  # it follows most of the way
        (2.0, 2.0, False),
        (0.8, 2.0, False),  # it gains more
        (0.0, 0.0, False),  # nothing was learned
        (0.0, -2.0, False),  # the judge falls, but no learned score ran away
        (-1.0, -3.0, False),
    ],
)
def test_a_reward_is_gamed_when_its_judge_does_not_follow(learned, judged, gamed):
    (verdict,) = gaming.gaming(fronts(learned, judged), STATISTICS)
    assert verdict["gamed"] is gamed
    if gamed:
        assert verdict["preference"] == [1.0, 0.0], "where the reward is pushed hardest"
        assert verdict["learned"]["low"] < learned < verdict["learned"]["high"]
        assert verdict["judge"]["low"] < judged < verdict["judge"]["high"]


def test_a_gap_within_the_noise_of_the_prompts_is_no_sign():
    """The gains of a gamed reward, under noise that could produce them."""
    assert gaming.gaming(fronts(0.5, 0.1, noise=0.2), STATISTICS)[0]["gamed"]
    assert not gaming.gaming(fronts(0.5, 0.1, noise=4.0), STATISTICS)[0]["gamed"]


def test_without_gaming_it_is_seldom_suspected():
    """Judge and reward gain alike; the interval holds at all preferences at once."""
    rng, suspected = np.random.default_rng(0), 0
    for _ in range(100):
        scores = rng.normal(0.3, 1, (64, 3, 2, 2))
        ids, flat = tuple(map(str, range(64))), np.ones((64, 3))
        sft = Front("sft", ("a", "b"), ids, GRID[:1], 0 * scores[:, :1, :, 0], None, flat[:, :1], flat[:, :1],
                    judge=0 * scores[:, :1, :, 0])  # fmt: skip
        bone = Front("bone", ("a", "b"), ids, GRID, scores[..., 0], None, flat, flat, judge=scores[..., 1])
        suspected += sum(verdict["gamed"] for verdict in gaming.gaming([sft, bone], Statistics(300, 0.95, 0)))
    # Of 200 comparisons 2.5% fall on the side of a gap; the judge must also lag.
    assert suspected <= 12


def test_without_judges_nothing_is_said():
    bare = [
        Front(f.method, f.objectives, f.prompts, f.preferences, f.reward, None, f.kl, f.tokens) for f in fronts(2, 0)
    ]
    assert gaming.gaming(bare, STATISTICS) == []
    assert gaming.hints({}) == gaming.rows({}) == []


def test_without_a_policy_to_gain_over_nothing_is_said():
    assert gaming.gaming(fronts(2, 0)[1:], STATISTICS) == []


def log(steps: int, leaves: int, noise: float = 0.2, seed: int = 0) -> list[dict]:
    """Make a log whose reward rises throughout, while its judge follows up to the step `leaves` and then falls."""
    rng, at = np.random.default_rng(seed), np.arange(1, steps + 1)
    learned = 2 * at / steps
    judge = np.where(at < leaves, learned, 2 * leaves / steps - 3 * (at - leaves) / steps)
    scores = np.stack([learned, judge], axis=1) + rng.normal(0, noise, (steps, 2))
    return [{"step": int(s), "reward/a": r, "judge/a": j} for s, (r, j) in zip(at, scores.tolist(), strict=True)]


def test_the_step_from_which_on_a_reward_runs_away_lies_after_its_judge_turned():
    steps = [gaming.ran_away(log(100, leaves=40, seed=seed), "a", 0.95) for seed in range(10)]
    assert all(step in (51, 61, 71) for step in steps), "the judge's gain is half the learned one at step 60"


def test_a_reward_that_its_judge_follows_to_the_end_did_not_run_away():
    assert not any(gaming.ran_away(log(100, leaves=101, seed=seed), "a", 0.95) for seed in range(20))
    # Nor did one that recovers.
    assert gaming.ran_away([*log(100, leaves=20), *log(20, leaves=21)], "a", 0.95) is None


def test_a_short_log_has_parts_of_five_steps_or_no_verdict():
    assert gaming.ran_away(log(12, leaves=1, noise=0.05), "a", 0.95) in (1, 7)
    assert gaming.ran_away(log(4, leaves=1, noise=0.05), "a", 0.95) is None


def test_the_hint_says_from_which_step_of_which_policy_on():
    bare = [{key: value for key, value in step.items() if not key.startswith("judge")} for step in log(100, 1)]
    logs = {"backbone-1": log(100, 40), "backbone-2": log(100, 101), "backbone-3": bare}
    (entry,) = gaming.gaming(fronts(2, 0), STATISTICS, {"bone": logs})
    assert entry["since"] == {"backbone-1": gaming.ran_away(logs["backbone-1"], "a", 0.95), "backbone-2": None}
    (hint,) = gaming.hints({"objectives": ["a", "b"], "gaming": [entry]})
    assert hint.endswith(f" In training it ran away from step {entry['since']['backbone-1']} on (backbone-1).")
    (entry,) = gaming.gaming(fronts(2, 0), STATISTICS, {"bone": {"backbone-2": log(100, 101)}})
    assert gaming.hints({"objectives": ["a", "b"], "gaming": [entry]})[0].endswith("end of any policy's training.")
    (entry,) = gaming.gaming(fronts(2, 2), STATISTICS, {"bone": logs})
    assert "since" not in entry


def test_the_hint_stands_in_every_kind_of_report():
    made = fronts(2.0, 0.1)
    report = document(evaluate([*made], [-1], 0.2, STATISTICS)) | {"gaming": gaming.gaming(made, STATISTICS)}
    report = json.loads(json.dumps(report))
    (hint,) = gaming.hints(report)
    assert hint.startswith("Reward a may be gamed by Bone Soup at a 1, b 0: learned +")
    console = Console(width=120, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(show.report(report))
    for text in (console.export_text(), markdown(report)):
        assert hint in " ".join(text.split())
        assert "judge (held-out) score" in text
    followed = report | {"gaming": gaming.gaming(fronts(2.0, 2.0), STATISTICS)}
    assert gaming.hints(followed) == [gaming.FOLLOWED]
