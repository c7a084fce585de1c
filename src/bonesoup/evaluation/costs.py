"""Count the costs of making and querying a method, so that they are the same on every machine."""

from collections.abc import Sequence

from bonesoup.settings.schema import Rl


def training_costs(policies: Sequence[dict], rl: Rl) -> dict[str, int]:
    """Count policies, their updates, and the responses that every reward has scored for them.

    Args:
        policies: policy.json of each; equal trainings count once, and so does a training of several together.
    """
    distinct = {policy["fingerprint"]: policy for policy in policies}.values()
    updates = sum(policy["steps"] for policy in distinct)
    count = sum(len(policy["together"]) if "together" in policy else 1 for policy in distinct)
    return {"policies": count, "updates": updates, "scored": updates * rl.prompts * rl.generations}


def request_costs(soup: dict) -> dict[str, int]:
    """Count forward passes of the base's size per token, and policies in memory, to answer any preference of a soup
    file.
    """
    # The model that reads rewards in its context replaces the policies of other methods.
    held = 1 if soup["mapping"] == "context" else len(soup["policies"])
    # When extrapolated, the base no longer cancels and runs in addition to the policies.
    base = any(scale != 1 for scale in soup.get("scale") or [])
    passes = held + base if soup.get("mixes") == "distributions" else 1
    return {"passes": passes, "held": held}


def seek_costs(search: dict, backbones: int, rl: Rl) -> dict[str, int]:
    """Count the costs of the search for beta: probes that are not continued, and responses that compared them.

    Args:
        search: beta.json of a search.
        backbones: policies of each candidate.
    """
    policies = (len(search["candidates"]) - 1) * backbones
    updates = policies * search["steps"]
    compared = sum(candidate["scored"] for candidate in search["candidates"])
    return {"policies": policies, "updates": updates, "scored": updates * rl.prompts * rl.generations + compared}
