"""candidates: the weight rows that every beta under comparison asks for, and how far its probe trains."""

from bonesoup.files import write_json
from bonesoup.method.basis import circulant
from bonesoup.paths import PROBES
from bonesoup.settings.schema import Settings


def run(settings: Settings, key: None) -> None:
    n = len(settings.objectives)
    # Rounded as in the stage `basis`, so that a probe and the full run of a row share their training.
    rows = {str(beta): circulant(n, beta).round(9).tolist() for beta in settings.seek.betas}
    full = settings.rl.budget(n) // n
    steps = max(1, round(settings.seek.share * full))
    write_json(PROBES / "plan.json", {"rows": rows, "steps": steps, "full": full})
