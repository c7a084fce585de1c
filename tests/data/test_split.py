"""Splits are by prompt, stable and without leakage."""

import random

import pytest

from bonesoup.data.split import SPLITS, assign

GROUPS = {f"p{k}": (f"question {k}",) for k in range(4000)}


def test_shares_are_kept():
    splits = list(assign(GROUPS, 0, 0.15, 0.25).values())
    assert {name: splits.count(name) / 4000 for name in SPLITS} == pytest.approx(
        {"train": 0.6, "validation": 0.15, "test": 0.25}, abs=0.03
    )


def test_a_prompt_keeps_its_split_when_others_come_and_go_in_any_order():
    whole = assign(GROUPS, 0, 0.15, 0.25)
    names = random.Random(0).sample(sorted(GROUPS), 1000)
    part = assign({name: GROUPS[name] for name in names}, 0, 0.15, 0.25)
    assert part == {name: whole[name] for name in names}
    assert assign(GROUPS, 1, 0.15, 0.25) != whole


def test_prompts_that_share_a_key_share_a_split_also_through_others():
    # A chain: prompt k shares a key with prompt k + 1.
    chain = {f"c{k}": (f"key {k}", f"key {k + 1}") for k in range(50)}
    for seed in range(10):
        splits = assign(GROUPS | chain, seed, 0.15, 0.25)
        assert len({splits[name] for name in chain}) == 1
        backwards = assign(dict(reversed((GROUPS | chain).items())), seed, 0.15, 0.25)
        assert backwards == splits


def test_too_few_prompts_are_refused():
    with pytest.raises(ValueError, match="1 distinct prompts leave nothing for"):
        assign({"p": ("q",)}, 0, 0.15, 0.25)
