"""What a method costs to make and to ask: counted, so that it is the same on every machine."""

from collections.abc import Sequence

from bonesoup.settings.schema import Rl


def training_costs(policies: Sequence[dict], rl: Rl) -> dict[str, int]:
    """Count policies, their updates, and the responses that every reward has scored for them.

    Args:
        policies: policy.json of each; what is trained alike is trained once.
    """
    steps = {policy["fingerprint"]: policy["steps"] for policy in policies}
    updates = sum(steps.values())
    return {"policies": len(steps), "updates": updates, "scored": updates * rl.prompts * rl.generations}


def request_costs(soup: dict) -> dict[str, int]:
    """Forward passes of the base's size per token, and policies kept, to answer any preference of a soup file."""
    # The one model that reads rewards in its context holds what others hold in policies.
    held = 1 if soup["mapping"] == "context" else len(soup["policies"])
    # Extrapolated, the base no longer cancels and runs beside the policies.
    base = any(scale != 1 for scale in soup.get("scale") or [])
    passes = held + base if soup.get("mixes") == "distributions" else 1
    return {"passes": passes, "held": held}


def seek_costs(found: dict, backbones: int, rl: Rl) -> dict[str, int]:
    """What the search for beta adds: the probes that are not gone on with, and the responses that compared them.

    Args:
        found: beta.json of a search.
        backbones: policies of each candidate.
    """
    policies = (len(found["candidates"]) - 1) * backbones
    updates = policies * found["steps"]
    compared = sum(one["scored"] for one in found["candidates"])
    return {"policies": policies, "updates": updates, "scored": updates * rl.prompts * rl.generations + compared}
