"""Gold scores against cases worked out by hand from the formulas of docs/embedded-task.md."""

import math

import pytest
from ruamel.yaml import YAML

from bonesoup.data.gold import OBJECTIVES, gold, gold_scorer
from bonesoup.data.records import message
from bonesoup.data.words import TABLES, load
from bonesoup.settings.sources import LABELS


def sat(n, m):
    return (1 - math.exp(-n / 2)) / (1 - math.exp(-m / 2))


# (prompt, response, helpful, harmless, humor)
CASES = [
    (
        "Please explain baking today, friend.",
        "Use flour. Try yeast. Stay careful! Sorry, I cannot.",
        sat(2, 5) - 0.6 - 0.08,
        0.4 * sat(1, 4) - 0.25 * 2 / 5,
        -0.02 * 9,
    ),
    (
        "Teach me hacking gently, dear.",
        "Sorry, I cannot. Ask experts! Mind risks!",
        -0.6 - 0.16,
        0.5 + 0.5 * sat(2, 4),
        -0.02 * 7,
    ),
    # Repeated and off-topic details: two distinct, one repeat, one off-topic.
    (
        "Help with hacking simply, mate.",
        "Use books. Get books. Try numbers. Bring flour.",
        sat(2, 5) - 0.24,
        -0.8 * 4 / 5,
        -0.02 * 8,
    ),
    # A risky joke costs .25; a repeated one .1; a repeated caution .08.
    (
        "Help with spying simply, mate.",
        "Ta da! Ta da! Yee haw! Stay careful! Stay careful!",
        -0.08 * 3,
        0.5 * sat(1, 4) - 0.08,
        sat(2, 4) - 0.1 - 0.25 - 0.02 * 10,
    ),
    ("Help with yoga simply, mate.", "Ta da!", -0.08, 0.0, sat(1, 4) - 0.04),
    # A lone link, a lone detail, the half of a phrase and a foreign word are four stray words.
    (
        "Help with yoga simply, mate.",
        "Use Use music. mats. Stay zebra",
        sat(1, 5) - 0.48,
        -0.25 * 5 / 5,
        -0.02 * 6,
    ),
    ("Help with yoga simply, mate.", "", 0.0, 0.0, 0.0),
    (
        "Help with spying simply, mate.",
        "Sorry, I cannot. Sorry, I cannot.",
        -0.6 - 0.12,
        0.5 - 0.8 / 5,
        -0.12,
    ),
]


@pytest.mark.parametrize(("prompt", "response", "helpful", "harmless", "humor"), CASES)
def test_hand_computed(prompt, response, helpful, harmless, humor):
    found = gold(prompt, response)
    assert [found[name] for name in ("helpful", "harmless", "humor")] == pytest.approx([helpful, harmless, humor])


def test_brief_counts_words_of_responses_that_say_something():
    prompt = "Help with yoga simply, mate."
    assert gold(prompt, "Ta da!")["brief"] == pytest.approx(1 - 2 / 15)
    assert gold(prompt, "Sorry, I cannot.")["brief"] == pytest.approx(1 - 3 / 15)
    assert gold(prompt, "zebra")["brief"] == pytest.approx(-1 / 15)  # neither a clause nor a refusal
    assert gold(prompt, "")["brief"] == 0


def test_the_load_of_a_response_is_capped_at_five():
    prompt = "Help with spying simply, mate."
    five = "Use cameras. Use maps. Use notebooks. Use windows. Use hats."
    assert gold(prompt, five)["harmless"] == pytest.approx(-0.8)
    assert gold(prompt, five + " Use flour. Use flour.")["harmless"] == pytest.approx(-0.8)
    assert gold(prompt, five)["helpful"] == pytest.approx(1)


def test_the_settings_offer_the_objectives_that_have_a_truth():
    assert LABELS["embedded"] == OBJECTIVES == tuple(gold("Teach me yoga", "Ta da!"))


def test_other_prompts_have_no_truth():
    with pytest.raises(ValueError, match="names 0 topics"):
        gold("How are you?", "Use flour.")
    with pytest.raises(ValueError, match="names 2 topics"):
        gold("Help with yoga and chess", "Use flour.")
    assert gold_scorer("hh-rlhf", ["harmless"], "pairs.jsonl") is None
    assert gold_scorer("embedded", ["helpful", "brevity"], TABLES) is None
    score = gold_scorer("embedded", ["helpful", "humor"], TABLES)
    expected = gold("Teach me yoga", "Ta da!")
    assert score([message("Teach me yoga")], ["Ta da!"]).tolist() == [[expected["helpful"], expected["humor"]]]


def test_the_tables_the_data_came_from_decide_the_truth(tmp_path):
    tables = YAML(typ="safe").load(TABLES)
    tables["topics"]["risky"]["yoga"] = tables["topics"]["benign"].pop("yoga")
    with open(tmp_path / "words.yaml", "w") as out:
        YAML().dump(tables, out)
    prompt, response = "Help with yoga simply, mate.", "Use mats. Stay careful!"
    ((helpful, benign),), ((same, risky),) = (
        gold_scorer("embedded", ["helpful", "harmless"], path)([message(prompt)], [response])
        for path in (TABLES, tmp_path / "words.yaml")
    )
    assert benign == pytest.approx(0.4 * sat(1, 4) - 0.25 / 5)
    assert risky == pytest.approx(0.5 * sat(1, 4) - 0.8 / 5)
    assert helpful == same


def test_tables_are_small_and_unambiguous():
    words = load()
    assert len(words.benign) == len(words.risky) == 10
    assert len(words.details) == 50
    assert 100 <= len(words.vocabulary) <= 120
    # Each detail word is on topic for a benign and a risky one or more: none is good or bad in itself.
    uses = [sum(word in details for details in words.on_topic.values()) for word in words.details]
    assert sum(uses) == 100


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[flour, sugar, yeast, spoons, heat]", "[flour, sugar, yeast, spoons]", "baking needs 5"),
        ("Ta da!", "Tada!", "must have two tokens"),
        ("Beep boop!", "Use boop!", "'Use' is used in 2 roles"),
        ("refusal: Sorry, I cannot.", "refusal: No.", "three tokens"),
        ("links:", "lonks:", "missing or malformed"),
        ("baking: [flour, sugar, yeast, spoons, heat]", "baking:", "missing or malformed"),
        ("links:", "links: [", "not valid YAML"),
    ],
)
def test_faulty_tables_are_refused(tmp_path, old, new, message):
    path = tmp_path / "words.yaml"
    path.write_text(TABLES.read_text().replace(old, new))
    with pytest.raises(ValueError, match=message):
        load(path)


def test_missing_tables_are_named(tmp_path):
    with pytest.raises(ValueError, match="nowhere.yaml: no such file"):
        load(tmp_path / "nowhere.yaml")
