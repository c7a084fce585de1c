"""report: statistics, plots and one HTML page from the kept samples. A new plot regenerates nothing."""

import subprocess
from pathlib import Path

from bonesoup.evaluation import tables
from bonesoup.evaluation.compare import evaluate
from bonesoup.evaluation.costs import request_costs, seek_costs, training_costs
from bonesoup.evaluation.gaming import gaming
from bonesoup.evaluation.point import measured
from bonesoup.evaluation.quality import quality
from bonesoup.evaluation.refusals import refusals
from bonesoup.evaluation.report import write_report
from bonesoup.evaluation.samples import read_examples, read_fronts, read_training
from bonesoup.evaluation.statistics import Statistics
from bonesoup.files import appearing, read_json, write_json
from bonesoup.paths import BETA, CHOICE, FRONTS, MEASURED, METRICS, NORMALISER, POLICIES, REPORT, REWARDS, ROWS, SOUPS
from bonesoup.settings.params import PARAMS
from bonesoup.settings.schema import Settings


def run(settings: Settings, key: None) -> None:
    samples = {method: FRONTS / method / "samples.parquet" for method in settings.methods}
    chosen, statistics = settings.evaluation, Statistics.of(settings)
    fronts = read_fronts(samples, settings.objectives)
    results = evaluate(fronts, chosen.references, chosen.interior, statistics)
    logs = {
        slot: POLICIES / group / slot / "steps.jsonl"
        for group in settings.policies
        for slot in read_json(ROWS / f"{group}.json")["slots"]
    }
    training = read_training(logs)
    choice = read_json(CHOICE)
    main = choice["method"]
    document = tables.document(results, main) | {
        "basis": read_json(METRICS / "basis.json"),
        "seek": _seek(settings),
        "diagnosis": _diagnosis(),
        "scales": {method: read_json(SOUPS / f"{method}.json").get("scale") for method in settings.methods},
        "costs": {method: _costs(settings, method) for method in settings.methods},
        "quality": quality(fronts, results, statistics),
        "choice": choice,
    }
    by_method = {method: {slot: training[slot] for slot in _slots(method)} for method in settings.methods}
    if compared := gaming(fronts, statistics, by_method):
        document["gaming"] = compared
    # The detector knows phrases of English; a model from scratch speaks the language of its data.
    if settings.model.source != "scratch":
        document["refusals"] = refusals(samples, settings.objectives, chosen.confidence)
    with appearing(REPORT) as folder:
        write_report(
            results,
            document,
            folder,
            main=main,
            examples=read_examples(samples, settings.objectives, settings.report.prompts),
            coefficients={method: _coefficients(method) for method in settings.methods},
            normaliser=read_json(NORMALISER),
            rewards={name: read_json(REWARDS / name / "reward.json") for name in settings.objectives},
            training=training,
            settings=PARAMS.read_text(),
            commit=_commit(),
        )
    write_json(METRICS / "report.json", document)
    write_json(MEASURED, measured(fronts, statistics))


def _seek(settings: Settings) -> dict | None:
    """Return the comparison of betas with its cost; None if there was none."""
    search = read_json(BETA)
    if not search["candidates"]:
        return None
    backbones = len(read_json(METRICS / "basis.json")["rows"])
    return search | {"cost": seek_costs(search, backbones, settings.rl)}


def _diagnosis() -> dict | None:
    """Return the prediction of the stage `diagnose`; None if it was off."""
    diagnosis = read_json(METRICS / "diagnosis.json")
    kept = ("verdict", "unit", "prediction", "soups", "extrapolation", "movement")
    return {key: diagnosis[key] for key in kept} if diagnosis else None


def _costs(settings: Settings, method: str) -> dict[str, int]:
    soup = read_json(SOUPS / f"{method}.json")
    policies = [read_json(Path(policy["path"]) / "policy.json") for policy in soup["policies"]]
    return (soup.get("costs") or training_costs(policies, settings.rl)) | request_costs(soup)


def _coefficients(method: str) -> dict:
    front = read_json(FRONTS / method / "front.json")
    return {"policies": _slots(method), "preferences": front["preferences"], "coefficients": front["coefficients"]}


def _slots(method: str) -> list[str]:
    return [policy["slot"] for policy in read_json(SOUPS / f"{method}.json")["policies"]]


def _commit() -> str:
    command = ["git", "rev-parse", "--short", "HEAD"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"
