"""Costs are counts: a row trained once counts once, and continued training is not charged again."""

from pathlib import Path

from bonesoup.evaluation.costs import request_costs, seek_costs, training_costs
from bonesoup.settings.params import load

RL = load(Path(__file__).parents[2] / "params.yaml").rl


def test_a_policy_costs_its_updates_and_their_rollouts():
    first, second = {"fingerprint": "a", "steps": 40}, {"fingerprint": "b", "steps": 20}
    costs = training_costs([first, second], RL)
    assert costs == {"policies": 2, "updates": 60, "scored": 60 * RL.prompts * RL.generations}
    assert training_costs([first, first], RL) == training_costs([first], RL)
    assert training_costs([], RL) == {"policies": 0, "updates": 0, "scored": 0}


def test_weights_are_one_pass_and_distributions_one_a_policy_and_one_for_the_base_where_it_counts():
    policies = [{}, {}, {}]
    assert request_costs({"mapping": "solve", "mixes": "weights", "policies": policies}) == {"passes": 1, "held": 3}
    mod = {"mapping": "solve", "mixes": "distributions", "policies": policies}
    assert request_costs(mod) == {"passes": 3, "held": 3}
    assert request_costs(mod | {"scale": [1.25] * 3}) == {"passes": 4, "held": 3}
    assert request_costs({"mapping": "context", "policies": []}) == {"passes": 1, "held": 1}


def test_a_search_pays_for_the_probes_it_throws_away_and_for_every_front():
    candidates = [{"scored": 500}, {"scored": 500}, {"scored": 400}]
    costs = seek_costs({"candidates": candidates, "steps": 12}, backbones=2, rl=RL)
    updates = 2 * 2 * 12
    assert costs == {"policies": 4, "updates": updates, "scored": updates * RL.prompts * RL.generations + 1400}
