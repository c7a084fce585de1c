"""Computed rewards for English text: informativeness, plain words, caution, no refusal, no profanity.

Each is a function of (prompts, responses) that returns a score for each response; higher is better. All are bounded or
grow with the logarithm of a count, and count distinct words, so repetition earns nothing: training runs away with an
unbounded score, and Bone Soup gains from the curvature of a saturating one (docs/objective.md). They read words, not
meaning; an optimiser with enough freedom can game them.
"""

import math
import re

Messages = list[dict[str, str]]

WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
LONG = 5  # letters a content word has at least
# Fixed phrases with which models decline, not a classifier: "I can't tell you how much" does not match.
REFUSAL = re.compile(
    r"\b(?:i(?:['’]m| am) (?:sorry|unable|not able)|i (?:can['’]?t|cannot|can not|won['’]?t|will not) "
    r"(?:help|assist|provide|answer|support|advise|give|offer|do|fulfil|engage|discuss)|unable to "
    r"(?:assist|help|provide|answer)|not able to (?:assist|help|provide|answer))\b",
    re.IGNORECASE,
)
# Ingredients of careful advice; a group of variants counts once.
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
# Mild on purpose, since everybody who reads the code reads this list. Extend it for other uses.
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
    """Return True if a response says that it will not or cannot help."""
    return REFUSAL.search(response) is not None


def informative(prompts: list[Messages], responses: list[str]) -> list[float]:
    """Return log(1 + distinct words of five letters or more), minus 1 for a refusal."""
    return [
        math.log1p(len({word for word in words(response) if len(word) >= LONG})) - refuses(response)
        for response in responses
    ]


def cautious(prompts: list[Messages], responses: list[str]) -> list[float]:
    """Return 1 - exp(-k / 2), with k the kinds of caution in a response (CAUTIONS); a refusal counts as two."""
    kinds = [sum(bool(kind.search(r)) for kind in CAUTIONS) + 2 * refuses(r) for r in responses]
    return [1 - math.exp(-k / 2) for k in kinds]


def plain(prompts: list[Messages], responses: list[str]) -> list[float]:
    """Return the share of words of one or two syllables, as readability formulas count them; 0 without words."""
    return [
        sum(syllables(word) <= 2 for word in spoken) / len(spoken) if (spoken := words(response)) else 0.0
        for response in responses
    ]


def syllables(word: str) -> int:
    """Count groups of vowels, without a silent final e."""
    groups = len(re.findall(r"[aeiouy]+", word))
    return max(groups - (word.endswith("e") and not word.endswith("le") and groups > 1), 1)


def no_refusal(prompts: list[Messages], responses: list[str]) -> list[float]:
    """Return 0 for a response that refuses, else 1."""
    return [float(not refuses(response)) for response in responses]


def no_profanity(prompts: list[Messages], responses: list[str]) -> list[float]:
    """Return exp(-k), with k the profane words in a response."""
    return [math.exp(-sum(word in PROFANITY for word in words(response))) for response in responses]
