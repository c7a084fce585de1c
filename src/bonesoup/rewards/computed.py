"""Computed rewards for English text: informativeness, plain words, caution, no refusal, no profanity.

Each is a plain function of (prompts, responses) that returns one score a response, higher is better. All are bounded,
or grow with the logarithm of a count, and count distinct words, so that saying a thing twice earns nothing: training
runs away with an unbounded score, and the curvature of a saturating one is what Bone Soup gains from
(docs/objective.md). They read words, not meaning; an optimiser that is given enough room can game them.
"""

import math
import re

Messages = list[dict[str, str]]

WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
LONG = 5  # letters of a word that counts as content
# Fixed phrases of a model that declines, not a classifier: "I can't tell you how much" is not among them.
REFUSAL = re.compile(
    r"\b(?:i(?:['’]m| am) (?:sorry|unable|not able)|i (?:can['’]?t|cannot|can not|won['’]?t|will not) "
    r"(?:help|assist|provide|answer|support|advise|give|offer|do|fulfil|engage|discuss)|unable to "
    r"(?:assist|help|provide|answer)|not able to (?:assist|help|provide|answer))\b",
    re.IGNORECASE,
)
# What careful advice is made of. A group of variants counts once.
CAUTIONS = [
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"\b(?:consult|see|ask|contact|talk to|speak (?:to|with))\b[^.!?\n]{0,40}\b(?:doctor|professional|expert|"
        r"lawyer|pharmacist|vet|veterinarian|electrician|specialist|authorities|police|physician|advisor|adviser)\b",
        r"\b(?:safe|safely|safety|safer|unsafe)\b",
        r"\b(?:careful|carefully|caution|cautious|cautiously)\b",
        r"\b(?:danger|dangerous|hazard|hazardous|harm|harmful)\b",
        r"\b(?:risk|risks|risky)\b",
        r"\b(?:avoid|refrain|never|do not|don['’]t)\b",
        r"\b(?:may|might|could|perhaps|possibly)\b",
        r"\b(?:however|but|although)\b",
        r"\b(?:important|crucial|essential|necessary) to\b",
        r"\b(?:medical|legal|professional|emergency|responsible|responsibly|permission|respect|respectful)\b",
    )
]
# Mild on purpose: this list is read by everybody who reads the code. Extend it for other uses.
PROFANITY = frozenset(
    (
        "damn",
        "damned",
        "dammit",
        "hell",
        "crap",
        "crappy",
        "bloody",
        "bastard",
        "bugger",
        "piss",
        "pissed",
        "arse",
        "ass",
    )
)


def words(text: str) -> list[str]:
    """Split a text into lower-case words."""
    return WORD.findall(text.casefold())


def refuses(response: str) -> bool:
    """Tell whether a response says that it will not or cannot help."""
    return REFUSAL.search(response) is not None


def informative(prompts: list[Messages], responses: list[str]) -> list[float]:
    """log(1 + distinct words of five letters or more), minus 1 for a refusal."""
    return [
        math.log1p(len({word for word in words(response) if len(word) >= LONG})) - refuses(response)
        for response in responses
    ]


def cautious(prompts: list[Messages], responses: list[str]) -> list[float]:
    """1 - exp(-k / 2), k the kinds of caution in a response (CAUTIONS); a refusal counts as two."""
    kinds = [sum(bool(kind.search(r)) for kind in CAUTIONS) + 2 * refuses(r) for r in responses]
    return [1 - math.exp(-k / 2) for k in kinds]


def plain(prompts: list[Messages], responses: list[str]) -> list[float]:
    """Share of words of one or two syllables, as the readability formulas count them; 0 for no words at all."""
    return [
        sum(syllables(word) <= 2 for word in found) / len(found) if (found := words(response)) else 0.0
        for response in responses
    ]


def syllables(word: str) -> int:
    """Count groups of vowels, a silent final e apart."""
    groups = len(re.findall(r"[aeiouy]+", word))
    return max(groups - (word.endswith("e") and not word.endswith("le") and groups > 1), 1)


def no_refusal(prompts: list[Messages], responses: list[str]) -> list[float]:
    """0 for a response that refuses, else 1."""
    return [float(not refuses(response)) for response in responses]


def no_profanity(prompts: list[Messages], responses: list[str]) -> list[float]:
    """exp(-k), k the profane words in a response."""
    return [math.exp(-sum(word in PROFANITY for word in words(response))) for response in responses]
