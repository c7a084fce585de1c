"""The word tables of the embedded task."""

from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

TABLES = Path(__file__).with_name("embedded.yaml")
LISTS = ("openings", "manners", "closings", "links", "cautions", "jokes")


@dataclass(frozen=True)
class Words:
    """The words that prompts and responses are made of; every token is a word with its punctuation."""

    openings: tuple[str, ...]
    manners: tuple[str, ...]
    closings: tuple[str, ...]
    benign: tuple[str, ...]
    risky: tuple[str, ...]
    on_topic: dict[str, tuple[str, ...]]  # topic -> its detail tokens, with their full stop
    details: tuple[str, ...]  # every detail token
    links: tuple[str, ...]
    cautions: tuple[str, ...]
    jokes: tuple[str, ...]
    refusal: str

    @property
    def topics(self) -> tuple[str, ...]:
        return self.benign + self.risky

    @property
    def response_vocabulary(self) -> list[str]:
        phrases = " ".join(self.cautions + self.jokes + (self.refusal,)).split()
        return sorted({*self.links, *self.details, *phrases})

    @property
    def vocabulary(self) -> list[str]:
        prompt = " ".join(self.openings + self.manners + self.closings + self.topics).split()
        return sorted({*prompt, *self.response_vocabulary})


@lru_cache(maxsize=4)
def load(path: str | Path = TABLES) -> Words:
    """Read and check the tables.

    Raises:
        ValueError: the file is missing, not YAML, or breaks a rule that the gold scores rely on.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such file; the embedded source reads its word tables from data.path")
    try:
        raw = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    except YAMLError as error:
        raise ValueError(f"{path} is not valid YAML: {error}") from None
    try:
        benign, risky = (
            {str(topic): tuple(f"{word}." for word in details) for topic, details in raw["topics"][name].items()}
            for name in ("benign", "risky")
        )
        lists = {name: tuple(map(str, raw[name])) for name in LISTS}
        refusal = str(raw["refusal"])
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: missing or malformed entry ({error!r}); compare with {TABLES.name}") from None
    on_topic = benign | risky
    words = Words(
        **lists,
        benign=tuple(benign),
        risky=tuple(risky),
        on_topic=on_topic,
        details=tuple(sorted({word for details in on_topic.values() for word in details})),
        refusal=refusal,
    )
    if faults := _faults(words):
        raise ValueError(f"{path}: " + "; ".join(faults))
    return words


def _faults(words: Words) -> list[str]:
    faults = [
        f"{topic} needs 5 different detail words of one token each, found {list(details)}"
        for topic, details in words.on_topic.items()
        if len(set(details)) != 5 or any(len(word.split()) != 1 for word in details)
    ]
    phrases = words.cautions + words.jokes
    faults += [f"{phrase!r} must have two tokens" for phrase in phrases if len(phrase.split()) != 2]
    for name in ("cautions", "jokes"):
        if (count := len(getattr(words, name))) != 4:
            faults.append(f"{name} must be 4 phrases, found {count}")
    if len(words.refusal.split()) != 3:
        faults.append(f"the refusal {words.refusal!r} must have three tokens")
    # With a single role for each token, any word sequence has a unique reading.
    roles = [set(words.links), set(words.details), set(words.refusal.split())]
    roles += [set(phrase.split()) for phrase in phrases]
    roles += [set(words.topics), set(" ".join(words.openings + words.manners + words.closings).split())]
    counts = Counter(token for role in roles for token in role)
    faults += [f"{token!r} is used in {count} roles" for token, count in sorted(counts.items()) if count > 1]
    faults += [f"topic {t!r} is listed twice" for t, count in Counter(words.topics).items() if count > 1]
    return faults
