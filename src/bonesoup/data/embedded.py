"""The embedded source: a seeded generator of prompts, SFT texts and noisily labelled preference pairs.

Pairs include the degenerate responses each objective invites, since policies exploit a reward model that never saw
them.
`python -m bonesoup.data.embedded` prints how strongly the gold scores conflict on SFT texts, and how well reward
models can do at best.
"""

import argparse
import math
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path

import numpy as np

from bonesoup.data.gold import OBJECTIVES, gold
from bonesoup.data.records import Records, message, prompt_id
from bonesoup.data.words import TABLES, Words, load
from bonesoup.settings.schema import Sizes

# Tokens of a response with its end-of-text token; an endless response has as many words, which leaves none for it.
LIMIT = 16
NOISE = 0.15  # temperature of the pair labels, in gold units
DRAWS = 20  # per row wanted; needing more means that the sizes exceed what the word tables offer

Rng = np.random.Generator


def generate(path: str | Path, objectives: Sequence[str], sizes: Sizes, seed: int) -> Records:
    """Make `sizes.prompts` distinct prompts, `sizes.sft` texts and `sizes.pairs` pairs for each objective.

    Args:
        objectives: some of `gold.OBJECTIVES`.

    Raises:
        ValueError: sizes beyond what the word tables can make.
    """
    words = load(path)
    prompts = _prompts(words, sizes.prompts, _rng(seed, "prompts"))
    messages = [message(text) for text, _ in prompts]
    rng = _rng(seed, "sft")
    texts = _distinct("sft", sizes, lambda: _text(rng, words, prompts))
    sft = [
        {"id": f"{k:06d}", "prompt": messages[index], "response": response} for k, (index, response) in enumerate(texts)
    ]
    rewards = {}
    for name in objectives:
        rng = _rng(seed, f"pairs {name}")
        pairs = _distinct("pairs", sizes, lambda rng=rng, name=name: _pair(rng, words, prompts, name))
        rewards[name] = [
            {"id": f"{k:06d}", "prompt": messages[index], "chosen": chosen, "rejected": rejected}
            for k, (index, chosen, rejected) in enumerate(pairs)
        ]
    rows = sizes.sft + sizes.pairs * len(objectives)
    return Records(
        prompts=messages,
        groups={prompt_id(m): (text,) for m, (text, _) in zip(messages, prompts, strict=True)},
        sft=sft,
        rewards=rewards,
        quarantine=[],
        rows_read=rows,
        counts={},
    )


def _rng(seed: int, stream: str) -> Rng:
    """Return the random stream of a table; another size or objective leaves the other tables unchanged."""
    return np.random.default_rng([seed, *stream.encode()])


def _prompts(words: Words, count: int, rng: Rng) -> list[tuple[str, str]]:
    """Draw `count` different (prompt, topic) pairs, in random order."""
    every = list(product(words.openings, words.topics, words.manners, words.closings))
    if count > len(every):
        raise ValueError(f"data.sizes.prompts is {count}, but the word tables make only {len(every)} different prompts")
    picked = [every[k] for k in rng.permutation(len(every))[:count]]
    return [(" ".join(parts), parts[1]) for parts in picked]


def _sample(rng: Rng, pool: Sequence[str], count: int) -> list[str]:
    """Draw `count` different members."""
    return [pool[k] for k in rng.permutation(len(pool))[:count]]


def _draw(rng: Rng, pool: Sequence[str], count: int) -> list[str]:
    """Draw `count` members, with replacement."""
    return [pool[k] for k in rng.integers(len(pool), size=count)]


def _clauses(rng: Rng, words: Words, details: Sequence[str]) -> list[str]:
    links = _draw(rng, words.links, len(details))
    return [f"{link} {detail}" for link, detail in zip(links, details, strict=True)]


def _off_topic(words: Words, topic: str) -> list[str]:
    return [word for word in words.details if word not in words.on_topic[topic]]


def _miss(rng: Rng, words: Words, topic: str, details: list[str], share: float) -> list[str]:
    """Replace each detail with an off-topic one with probability `share`."""
    others = _draw(rng, _off_topic(words, topic), len(details))
    return [o if u < share else d for d, o, u in zip(details, others, rng.random(len(details)), strict=True)]


def _assemble(rng: Rng, words: Words, clauses: list[str], refused: bool, endless: bool = False) -> str:
    """Shuffle clauses, refusal first, and cut: whole clauses up to 15 words, or repeated up to exactly 16."""
    parts = [words.refusal] * refused + [clauses[k] for k in rng.permutation(len(clauses))]
    if endless:
        return " ".join((" ".join(parts).split() * LIMIT)[:LIMIT])
    kept, length = [], 0
    for part in parts:
        length += len(part.split())
        if length > LIMIT - 1:
            break
        kept.append(part)
    return " ".join(kept)


def sft_response(rng: Rng, words: Words, topic: str) -> str:
    """Draw a response for SFT: 0-3 details, 0-2 cautions, 0-2 jokes, refusals mostly on risky topics."""
    while True:
        clauses = _clauses(rng, words, _sample(rng, words.on_topic[topic], rng.integers(4)))
        clauses += _sample(rng, words.cautions, rng.integers(3)) + _sample(rng, words.jokes, rng.integers(3))
        refused = bool(rng.random() < (0.35 if topic in words.risky else 0.04))
        if clauses or refused:
            return _assemble(rng, words, clauses, refused)


def wide_response(rng: Rng, words: Words, topic: str) -> str:
    """Draw a response with more of everything than SFT texts have, without repeats."""
    while True:
        details = _miss(rng, words, topic, _sample(rng, words.on_topic[topic], rng.integers(6)), 0.2)
        clauses = _clauses(rng, words, details)
        clauses += _sample(rng, words.cautions, rng.integers(5)) + _sample(rng, words.jokes, rng.integers(5))
        refused = bool(rng.random() < 0.25)
        if clauses or refused:
            return _assemble(rng, words, clauses, refused)


def spam_response(rng: Rng, words: Words, topic: str) -> str:
    """Draw a degenerate response: many details, off-topic ones, a repeated clause or loose words; 30% endless."""
    kind = rng.integers(4)
    refused, endless = bool(rng.random() < 0.15), bool(rng.random() < 0.3)
    if kind == 0:
        clauses = _clauses(rng, words, _draw(rng, words.on_topic[topic], rng.integers(4, 9)))
    elif kind == 1:
        clauses = _clauses(rng, words, _draw(rng, _off_topic(words, topic), rng.integers(1, 9)))
    elif kind == 2:
        candidates = _clauses(rng, words, _draw(rng, words.on_topic[topic], 1)) + _sample(rng, words.cautions, 1)
        clauses = [candidates[rng.integers(2)]] * int(rng.integers(2, 9)) + candidates
    else:
        clauses = _draw(rng, words.response_vocabulary, rng.integers(1, LIMIT))
    return _assemble(rng, words, clauses, refused, endless)


def joke_spam(rng: Rng, words: Words, topic: str) -> str:
    """Draw repeated jokes, which exploit a humor reward that saw only distinct ones (docs/embedded-task.md)."""
    jokes = _sample(rng, words.jokes, rng.integers(1, 5))
    clauses = _clauses(rng, words, _sample(rng, words.on_topic[topic], rng.integers(4)))
    clauses += _sample(rng, words.cautions, rng.integers(4)) + jokes + _draw(rng, jokes, rng.integers(7))
    if rng.random() < 0.3:
        clauses += _sample(rng, words.cautions, 1) * int(rng.integers(1, 4))
    clauses = _sample(rng, clauses, int(rng.integers(1, 9)))
    return _assemble(rng, words, clauses, bool(rng.random() < 0.15), bool(rng.random() < 0.3))


def pair_response(rng: Rng, words: Words, topic: str, objective: str) -> str:
    """Draw half from the SFT mixture, a fifth wide, the rest spam; for humor 35% of the other half is joke spam."""
    u = rng.random()
    if u < 0.5:
        return sft_response(rng, words, topic)
    if objective == "humor" and rng.random() < 0.35:
        return joke_spam(rng, words, topic)
    return (wide_response if u < 0.7 else spam_response)(rng, words, topic)


def _distinct(key: str, sizes: Sizes, draw: Callable[[], tuple | None]) -> list[tuple]:
    """Draw as many different rows as `data.sizes` wants under `key`; a draw of None is repeated.

    Raises:
        ValueError: too few different rows in DRAWS draws for each row wanted.
    """
    wanted = getattr(sizes, key)
    rows: dict[tuple, None] = {}  # in the order drawn
    for _ in range(DRAWS * wanted):
        if (item := draw()) is not None:
            rows[item] = None
        if len(rows) == wanted:
            return list(rows)
    raise ValueError(
        f"data.sizes.{key} is {wanted}, but {DRAWS * wanted} draws over {sizes.prompts} prompts gave only {len(rows)} "
        f"different ones: lower data.sizes.{key} or raise data.sizes.prompts"
    )


def _text(rng: Rng, words: Words, prompts: list[tuple[str, str]]) -> tuple[int, str]:
    """Draw (prompt index, response) of an SFT text."""
    index = int(rng.integers(len(prompts)))
    return index, sft_response(rng, words, prompts[index][1])


def _pair(rng: Rng, words: Words, prompts: list[tuple[str, str]], objective: str) -> tuple[int, str, str] | None:
    """Draw (prompt index, chosen, rejected); None if the two responses are equal.

    The first of two responses is chosen with probability sigmoid(gold difference / NOISE).
    """
    index = int(rng.integers(len(prompts)))
    prompt, topic = prompts[index]
    a, b = (pair_response(rng, words, topic, objective) for _ in range(2))
    difference = gold(prompt, a, words)[objective] - gold(prompt, b, words)[objective]
    chosen, rejected = (a, b) if rng.random() < 1 / (1 + math.exp(-difference / NOISE)) else (b, a)
    return (index, chosen, rejected) if a != b else None


def conflict(samples: int = 4000, seed: int = 0) -> np.ndarray:
    """Correlate the gold scores over SFT texts: [objective, objective] in the order of gold.OBJECTIVES."""
    words, rng = load(TABLES), _rng(seed, "conflict")
    prompts = _prompts(words, 1024, rng)
    rows = []
    for k in range(samples):
        prompt, topic = prompts[k % len(prompts)]
        scores = gold(prompt, sft_response(rng, words, topic), words)
        rows.append([scores[name] for name in OBJECTIVES])
    return np.corrcoef(np.array(rows).T)


def ceiling(objective: str, samples: int = 12000, seed: int = 0) -> tuple[float, float, float]:
    """Measure what noisy labels leave to a reward model of `objective`, over `samples` pairs.

    Returns the share of labels that agree with gold, the best expected accuracy, and the share of pairs whose chosen
    response is the longer one (half of those of equal length).
    """
    words = load(TABLES)
    pairs = generate(TABLES, [objective], Sizes(sft=1, pairs=samples, prompts=4096), seed).rewards[objective]
    texts = [(row["prompt"][-1]["content"], row["chosen"], row["rejected"]) for row in pairs]
    gaps = np.array([gold(p, a, words)[objective] - gold(p, b, words)[objective] for p, a, b in texts])
    longer = np.array([np.sign(len(a.split()) - len(b.split())) for _, a, b in texts])
    best = 1 / (1 + np.exp(-np.abs(gaps) / NOISE))
    return float((gaps > 0).mean()), float(best.mean()), float((longer / 2 + 0.5).mean())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Print how gold scores correlate; ceilings of reward models.")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    for name, row in zip(OBJECTIVES, conflict(seed=options.seed), strict=True):
        print(f"{name:9s}", *(f"{value:+.3f}" for value in row))
    for name in OBJECTIVES:
        print(f"{name:9s}", *(f"{value:.3f}" for value in ceiling(name, seed=options.seed)))
