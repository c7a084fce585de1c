"""diagnose: predict from the specialists alone, to be compared with what the full run shows; off by default."""

from bonesoup.files import write_json
from bonesoup.paths import METRICS
from bonesoup.settings.schema import Settings


def run(settings: Settings, key: None) -> None:
    if not settings.diagnosis.samples:
        write_json(METRICS / "diagnosis.json", {})
        return
    from bonesoup.diagnose.findings import diagnose
    from bonesoup.diagnose.measure import correlation, measure, rows

    sampled, steps = measure(settings, settings.diagnosis.samples)
    findings = diagnose(settings, sampled, rows(settings), correlation(), steps)
    write_json(METRICS / "diagnosis.json", findings)
    print(f"diagnose: {findings['verdict']}")
