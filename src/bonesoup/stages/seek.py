"""seek: keep the beta whose probes have the largest hypervolume on validation prompts (Bone Soups, section 3).

With no candidates basis.beta passes through, calculated if it is `auto`. It also stays where no other is
distinguishable from it.
"""

from bonesoup.evaluation.choices import compare_betas
from bonesoup.evaluation.samples import read_fronts
from bonesoup.evaluation.statistics import Statistics
from bonesoup.files import read_json, write_json
from bonesoup.method.beta import beta_for
from bonesoup.paths import BETA, PROBES
from bonesoup.settings.schema import Settings
from bonesoup.settings.training import asked


def run(settings: Settings, key: None) -> None:
    kept, chosen = settings.basis.beta, settings.evaluation
    if kept == "auto":
        kept = beta_for(len(settings.objectives), asked(settings.basis.distribution), chosen.parts, chosen.interior)
        print(f"seek: beta {kept:g}: misses least to second order, in the mean over the stated preferences")
    if not settings.seek.betas:
        write_json(BETA, {"beta": kept, "candidates": []})
        return
    plan = read_json(PROBES / "plan.json")
    paths = {f"beta={beta}": PROBES / beta / "samples.parquet" for beta in plan["rows"]}
    fronts = dict(zip(map(float, plan["rows"]), read_fronts(paths, settings.objectives), strict=True))
    candidates = compare_betas(fronts, kept, settings.evaluation.references[0], Statistics.of(settings))
    best = max(candidates, key=lambda candidate: candidate["hypervolume"]["value"])
    beta = best["beta"] if best["difference"]["low"] > 0 else kept
    for candidate in candidates:
        gap = candidate["difference"]
        print(
            f"seek: beta {candidate['beta']:g}: hypervolume {candidate['hypervolume']['value']:.3f}, against {kept:g} "
            f"{gap['value']:+.3f} [{gap['low']:+.3f}, {gap['high']:+.3f}]"
        )
    reason = (
        "its hypervolume is distinguishably the largest" if beta != kept else f"none is distinguishable from {kept:g}"
    )
    if best["beta"] == kept:
        reason = "it has the largest hypervolume"
    print(f"seek: beta {beta:g}: {reason}; {plan['steps']} of {plan['full']} steps a policy were trained")
    write_json(
        BETA,
        {"beta": beta, "reason": reason, "steps": plan["steps"], "full": plan["full"], "candidates": candidates},
    )
