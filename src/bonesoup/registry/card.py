"""The model card of a version, from the template mlflow/model-card.md."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined, TemplateSyntaxError, UndefinedError

import bonesoup
from bonesoup.files import read_json
from bonesoup.method.mappings import MAPPINGS
from bonesoup.method.methods import BACKBONES, METHODS
from bonesoup.method.preferences import format_weights
from bonesoup.paths import METRICS, SOUPS, SUMMARY
from bonesoup.registry.candidates import CHECKPOINT, Candidate
from bonesoup.registry.package import Origin, policies

TEMPLATE = Path("mlflow/model-card.md")
# Characters that fit the registry's description column.
DESCRIPTION_CHARACTERS = 5000
PAPER = "arXiv 2502.10762"
LICENCE = "apache-2.0"
LICENCE_TEXT = (
    "The code here is under Apache-2.0. Weights trained from scratch on the embedded data are too; otherwise "
    "the licences of the base model, the reward models and the data apply to them."
)


def card(candidate: Candidate, origin: Origin) -> str:
    """Render the model card of a candidate."""
    return render(origin.root / TEMPLATE, values(candidate, origin))


def render(template: Path, values: dict[str, Any]) -> str:
    """Return the card as Markdown.

    Raises:
        ValueError: the template is missing, is not a Jinja template, or uses a name that does not exist.
    """
    if not template.is_file():
        raise ValueError(f"{template} does not exist: it is the template of the model cards")
    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True)
    environment.globals["weights"] = weights
    try:
        return environment.from_string(template.read_text()).render(
            licence=LICENCE, licence_text=LICENCE_TEXT, **values
        )
    except TemplateSyntaxError as error:
        raise ValueError(f"{template} line {error.lineno}: {error.message}") from None
    except UndefinedError as error:
        raise ValueError(f"{template}: {error.message}") from None


def values(candidate: Candidate, origin: Origin) -> dict[str, Any]:
    """Return the names that the template may use."""
    settings, root, soup = origin.settings, origin.root, candidate.soup
    objectives, scale = soup["objectives"], soup.get("scale") or []
    rewards = {}
    for name in objectives:
        measured = root / METRICS / f"reward-{name}.json"
        rewards[name] = settings["rewards"][name] | (read_json(measured) if measured.is_file() else {})
    made = read_json(root / SOUPS / f"{soup['method']}.json")
    folders = {policy["slot"]: root / policy["path"] for policy in made["policies"]}
    recipe = [
        {
            "slot": slot,
            "row": dict(zip(objectives, facts["row"], strict=True)),
            "steps": read_json(folders[slot] / "policy.json")["steps"],
            "start": facts.get("start"),
            "together": facts.get("together"),
        }
        for slot, facts in policies(candidate, origin).items()
    ]
    summary = root / SUMMARY
    return {
        "name": candidate.name,
        "kind": candidate.kind,
        "title": METHODS[soup["method"]].title,
        "paper": PAPER if METHODS[soup["method"]].policies is BACKBONES else None,
        "mapping": MAPPINGS[made["mapping"]].words,
        "version": bonesoup.__version__,
        "objectives": objectives,
        "recipe": recipe,
        "coefficients": candidate.coefficients,
        "scale": dict(zip(objectives, scale, strict=True)) if any(value != 1 for value in scale) else {},
        "default": candidate.default,
        "named": next(iter(origin.preferences), None),
        "text": format_weights(candidate.default),
        "evidence": candidate.evidence,
        "gold": any(name.startswith("gold/") for name in candidate.evidence),
        "judge": any(name.startswith("judge/") for name in candidate.evidence),
        "rewarded": bool(candidate.rewarded),
        "confidence": settings["evaluation"]["confidence"],
        "data": {"hub": None, "revision": None} | settings["data"],
        "summary": read_json(summary) if summary.is_file() else None,
        "rewards": rewards,
        "rl": settings["rl"],
        "generation": settings["generation"],
        "code": origin.code,
        "base": origin.base,
        "base_digest": candidate.base,
        "checkpoint": CHECKPOINT,
    }


def weights(preference: dict[str, float]) -> str:
    """Format a preference for people: {'helpful': 0.7, 'harmless': 0.3} -> '0.7 helpful + 0.3 harmless'."""
    return " + ".join(f"{value:g} {name}" for name, value in preference.items())


def description(card: str) -> str:
    """Return the card without its front matter, cut to the length the registry accepts."""
    text = card.split("---\n", 2)[-1].strip()
    if len(text) <= DESCRIPTION_CHARACTERS:
        return text
    end = "\n\n... the whole card is README.md of this version."
    return text[: DESCRIPTION_CHARACTERS - len(end)] + end
