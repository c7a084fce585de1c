"""The QA-Feedback format (FineGrainedRLHF): questions, passages, a prediction with errors marked by people.

Each objective gets labelled responses in [0, 1]: the marked prediction, and the annotators' corrected one as
a clean response with label 1. docs/data-formats.md says how labels are made, why, and what they cannot show.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from bonesoup.data.read import BadRow, check_length, field, read, set_aside, text_of
from bonesoup.data.records import Messages, Records, message, normal, prompt_id
from bonesoup.settings.schema import Data

# Objective -> types of error in a span of the prediction.
ERRORS = {
    "relevance": ("Irrelevant", "Redundant", "Incoherent"),
    "factuality": ("Wrong-Grounding", "Unverifiable"),
}
# Weight of a missing piece: the answer itself, a major or a minor piece of support.
MISSING = {"Missing-Answer": 1.0, "Missing-Major-Auxiliary": 0.5, "Missing-Minor-Auxiliary": 0.25}

SENTENCE = re.compile(r"\S.*?(?:[.!?]+[\"')\]]*(?=\s+[A-Z\"'(\d])|$)", re.DOTALL)
COMMON = """a an and are as at be been by did do does for from had has have he her his how in is it its many
much of on or she that the their they this to was were what when where which who whom whose why will with you
your"""
STOPWORDS = frozenset(COMMON.split())


@dataclass(frozen=True)
class Row:
    question: str
    passages: tuple[tuple[str, ...], ...]  # title, sentence, sentence, ...
    gold: str
    prediction: str
    corrected: str  # may be blank: nothing in the passages answers the question
    labels: dict[str, float]  # objective -> label of the prediction


def parse(row: dict, max_response_chars: int) -> Row:
    """Read a row.

    Raises:
        BadRow: the row does not have the format.
    """
    question, gold = text_of(row, "question"), text_of(row, "gold")
    prediction = text_of(row, "prediction 1")
    feedback = _typed(row, "feedback", dict)
    corrected = text_of(feedback, "corrected-prediction", "feedback", optional=True)
    for name, text in (("gold", gold), ("prediction 1", prediction), ("corrected-prediction", corrected)):
        check_length(repr(name), text, max_response_chars)
    # Spans count characters of the released text, before stripping.
    labels = _labels(row["prediction 1"], _typed(feedback, "errors", list), _typed(feedback, "missing-info", list))
    return Row(question, _passages(_typed(row, "passages", list)), gold, prediction, corrected, labels)


def _typed(row: dict, key: str, kind: type) -> list | dict:
    value = field(row, key)
    if not isinstance(value, kind):
        raise BadRow(f"{key!r} is {type(value).__name__}, not {kind.__name__}", value)
    return value


def _passages(raw: list) -> tuple[tuple[str, ...], ...]:
    if not raw or any(not isinstance(p, list) or len(p) < 2 or any(not isinstance(s, str) for s in p) for p in raw):
        raise BadRow("'passages' must hold lists of strings: a title and its sentences", raw)
    for number, passage in enumerate(raw, start=1):
        for sentence in passage:
            text_of({"sentence": sentence}, "sentence", f"passages {number}", optional=True)
    return tuple(tuple(text.strip() for text in passage) for passage in raw)


def _labels(prediction: str, errors: list, missing: list) -> dict[str, float]:
    """Label relevance by characters, factuality by sentences, and completeness by missing information.

    A side remark counts by its length; a wrong date makes its whole sentence wrong.
    """
    bad = {objective: [False] * len(prediction) for objective in ERRORS}
    for error in errors:
        kind = error.get("error type") if isinstance(error, dict) else None
        objective = next((name for name, kinds in ERRORS.items() if kind in kinds), None)
        if objective is None:
            raise BadRow(f"unknown error type {kind!r} in feedback.errors", error)
        start, end = error.get("start"), error.get("end")
        if not (type(start) is int and type(end) is int and 0 <= start < end <= len(prediction)):
            raise BadRow(f"error span {start!r}-{end!r} is not inside 'prediction 1' (0-{len(prediction)})", error)
        bad[objective][start:end] = [True] * (end - start)
    kinds = [piece.get("error type") if isinstance(piece, dict) else None for piece in missing]
    if unknown := [kind for kind in kinds if kind not in list(MISSING)]:
        raise BadRow(f"unknown error type {unknown[0]!r} in feedback.missing-info", missing)
    letters = [not c.isspace() for c in prediction]
    irrelevant = sum(b and c for b, c in zip(bad["relevance"], letters, strict=True)) / sum(letters)
    spans = sentences(prediction)
    wrong = sum(any(bad["factuality"][a:b]) for a, b in spans) / len(spans)
    return {
        "relevance": round(1 - irrelevant, 6),
        "factuality": round(1 - wrong, 6),
        "completeness": round(1 / (1 + sum(MISSING[kind] for kind in kinds)), 6),
    }


def sentences(text: str) -> list[tuple[int, int]]:
    """Return (start, end) of the sentences of a text that is not blank."""
    return [match.span() for match in SENTENCE.finditer(text.rstrip())]


def make_prompt(question: str, passages: Sequence[Sequence[str]], limit: int) -> tuple[Messages, bool]:
    """Build the prompt: the passage sentences that share most words with the question, then the question.

    The prompt has at most `limit` characters. Chosen sentences stay in order, below the title of their passage.

    Returns:
        The prompt, and True if any sentence was left out.
    """
    ending = f"Question: {question}"
    if len(ending) > limit:
        return message(ending[-limit:].lstrip()), True
    asked = _content(question)
    # The first sentence of an article repeats the title on a separate line.
    every = [
        (p, s, sentence.split("\n\n")[-1])
        for p, passage in enumerate(passages)
        for s, sentence in enumerate(passage[1:])
        if sentence.strip()
    ]
    ranked = sorted(every, key=lambda item: (-len(asked & _content(item[2])), item[:2]))
    kept: list[tuple[int, int, str]] = []
    for candidate in ranked:
        if len(_layout(passages, [*kept, candidate], ending)) <= limit:
            kept.append(candidate)
    return message(_layout(passages, kept, ending)), len(kept) < len(every)


def _layout(passages: Sequence[Sequence[str]], kept: list[tuple[int, int, str]], ending: str) -> str:
    by_title: dict[str, list[str]] = {}
    for p, _, sentence in sorted(kept):
        by_title.setdefault(passages[p][0], []).append(sentence)
    return "\n".join([f"{title}: {' '.join(chosen)}" for title, chosen in by_title.items()] + [ending])


def _content(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.casefold())) - STOPWORDS


def records(data: Data, objectives: Sequence[str]) -> Records:
    """Make labelled responses for each of `objectives`, and SFT texts of the corrected and the reference answers.

    Several predictions for a question may share their answers: each text counts once for a prompt.

    Raises:
        ValueError: see bonesoup.data.read.read.
    """
    rows, quarantine = read(data, lambda row: parse(row, data.max_response_chars))
    rows_read = len(rows) + len(quarantine)
    prompts, groups, sft = {}, {}, []
    rewards: dict[str, list[dict]] = {name: [] for name in objectives}
    first_line: dict[tuple[str, str], int] = {}
    texts: set[tuple[str, str]] = set()  # (prompt id, answer) among the SFT texts
    labelled: set[tuple[str, str, str]] = set()  # (objective, prompt id, response)
    counts = dict.fromkeys(("passages_shortened", "no_correction", "nothing_to_correct", "repeated_sft_texts"), 0)
    for line, row in rows:
        prompt, shortened = make_prompt(row.question, row.passages, data.max_prompt_chars)
        key = prompt_id(prompt)
        if (key, row.prediction) in first_line:
            quarantine.append(set_aside(data, line, f"repeats line {first_line[key, row.prediction]}", row.question))
            continue
        first_line[key, row.prediction] = line
        prompts[key] = prompt
        # The same question, or the same passages under another question, must not reach the test split.
        groups[key] = (*groups.get(key, ()), normal(row.question), normal(repr(row.passages)))
        counts["passages_shortened"] += shortened
        blank, same = not row.corrected, row.corrected == row.prediction
        counts["no_correction"] += blank
        counts["nothing_to_correct"] += same
        for name in objectives:
            # If the passages have no answer, "nothing is missing" says nothing about the response.
            wanted = [("prediction", row.prediction, row.labels[name])] * (not (blank and name == "completeness"))
            wanted += [("corrected", row.corrected, 1.0)] * (not (blank or same))
            for kind, response, label in wanted:
                if (name, key, response) not in labelled:
                    labelled.add((name, key, response))
                    rewards[name].append(
                        {"id": f"{line}-{kind}", "prompt": prompt, "response": response, "label": label}
                    )
        for kind, answer in [("corrected", row.corrected)] * (not blank) + [("gold", row.gold)]:
            if (key, answer) in texts:
                counts["repeated_sft_texts"] += 1
            else:
                texts.add((key, answer))
                sft.append({"id": f"{line}-{kind}", "prompt": prompt, "response": answer})
    return Records(
        prompts=list(prompts.values()),
        groups=groups,
        sft=sft,
        rewards=rewards,
        quarantine=sorted(quarantine, key=lambda entry: entry["line"]),
        rows_read=rows_read,
        counts=counts,
    )
