"""soup: for each method, its policies and how a preference becomes merging coefficients. No weights are copied."""

from pathlib import Path

from bonesoup.files import appearing, file_digest, read_json, write_json
from bonesoup.method.mappings import MAPPINGS
from bonesoup.method.methods import METHODS, Plan, method_slots
from bonesoup.method.preferences import lattice
from bonesoup.paths import METRICS, OWN_BASE, POLICIES, RECIPES, RIC, ROWS, SFT
from bonesoup.settings.schema import Settings


def run(settings: Settings, key: None) -> None:
    n = len(settings.objectives)
    grid = lattice(n, settings.evaluation.parts).tolist()
    # Slots come from the plan of `basis`, not from a listing: a removed slot's folder stays on disk.
    where = {slot: group for group in settings.policies for slot in read_json(ROWS / f"{group}.json")["slots"]}
    plan = Plan.of(read_json(METRICS / "basis.json")["rows"], settings.oracles)
    with appearing(RECIPES) as folder:
        folder.mkdir()
        for method in settings.methods:
            record = METHODS[method]
            policies = [_policy(f"{where[slot]}/{slot}") for slot in method_slots(method, plan)]
            preferences = [policy["row"] for policy in policies] if record.answers == "rows" else grid
            soup = {
                "method": method,
                "base": str(SFT),
                "objectives": settings.objectives,
                "mapping": record.mapping_of(len(policies), n),
                "mixes": record.mixes,
                "policies": policies,
                "preferences": preferences,
            }
            if record.stage == "ric":
                soup |= _context()
            elif MAPPINGS[record.mapping].reads:
                soup |= _reader(policies)
            write_json(folder / f"{method}.json", soup)
            print(f"soup: {method}: {len(policies)} policies answer {len(preferences)} preferences")


def _context() -> dict:
    """Return the entries of RiC: its model, and the rewards that its prompts can ask for."""
    facts = read_json(RIC / "ric.json")
    return {
        "base": str(RIC),
        "reference": str(SFT),
        "digest": file_digest(RIC),
        "reach": [facts["low"], facts["high"]],
        "costs": {"policies": 1, "updates": facts["updates"], "scored": facts["responses_scored"]},
    }


def _reader(policies: list[dict]) -> dict:
    """Return the entries of a policy that reads the preference: its base has the tokens for it."""
    base = Path(policies[0]["path"]) / OWN_BASE
    return {"base": str(base), "reference": str(SFT), "digest": file_digest(base)}


def _policy(name: str) -> dict:
    path = POLICIES / name
    facts = read_json(path / "policy.json")
    made_with = {key: facts[key] for key in ("start", "together") if key in facts}
    return {
        "slot": path.name,
        "path": str(path),
        "row": facts["row"],
        # Makes the readers of a soup file depend on the weights it names.
        "digest": file_digest(path / "adapter_model.safetensors"),
    } | made_with
