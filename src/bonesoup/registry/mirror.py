"""What the stages left on disk, as one record per MLflow run."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bonesoup.files import digest, read_json, read_jsonl
from bonesoup.registry.evidence import report_evidence
from bonesoup.registry.lineage import digests

# Larger files stay in out/: DVC keeps them.
ARTIFACT_LIMIT = 50_000_000


@dataclass(frozen=True)
class StageRun:
    """One run to mirror.

    Attributes:
        stage, key: as in dvc.yaml, except that a policy's key is its slot.
        params: the settings the stage ran with, flat.
        metrics: final numbers, flat.
        steps: numbers per step, each row with its "step".
        artifacts: small files and folders of plots or tables; never weights.
        fingerprint: of settings and output files; two runs that agree in it are the same run.
    """

    stage: str
    key: str
    params: dict[str, Any]
    metrics: dict[str, float]
    steps: list[dict]
    artifacts: list[Path]
    fingerprint: str

    @property
    def name(self) -> str:
        return f"{self.stage}@{self.key}" if self.key else self.stage


def stage_runs(
    root: Path, settings: dict, objectives: list[str], methods: list[str], groups: list[str]
) -> tuple[list[StageRun], list[str]]:
    """The runs that out/ holds, in the order of the pipeline, and the names of those it does not hold yet.

    Args:
        settings: params.yaml as plain data.
        groups: of policies.
    """
    out = root / "out"
    common = {name: settings[name] for name in ("seed", "threads", "device")}
    found, missing = [], []

    def add(stage: str, key: str, params: dict, outs: list[Path], metrics: Path | None = None, **more) -> None:
        run = _run(root, stage, key, common | params, outs, metrics, **more)
        if run:
            found.append(run)
        else:
            missing.append(f"{stage}@{key}" if key else stage)

    def section(*names: str) -> dict:
        return {name: settings[name] for name in names}

    def found_of(method: str) -> dict[str, float]:
        return {name: found["value"] for name, found in report_evidence(root, method).items()}

    summary, base = out / "data" / "summary.json", out / "metrics"
    add("prepare", "", section("data"), [out / "data"], summary, artifacts=[summary])
    add("sft", "", section("model", "sft"), [out / "sft"], base / "sft.json")
    for name in objectives:
        add("reward", name, settings["rewards"][name], [out / "rewards" / name], base / f"reward-{name}.json")
    normaliser = out / "normaliser.json"
    add("normalise", "", section("normalise", "generation"), [normaliser], normaliser)
    rows = [out / "rows" / f"{group}.json" for group in groups]
    chosen = section("basis", "oracles") | {name: settings[name] for name in ("seek",) if name in settings}
    add(
        "basis",
        "",
        chosen,
        [out / "beta.json", *rows],
        out / "beta.json",
        artifacts=rows,
    )
    for group, slot, row in plan(out, groups):
        folder = out / "policies" / group / slot
        params = {"group": group, "row": dict(zip(objectives, row, strict=True))} | section("rl", "generation")
        add("policy", slot, params, [folder], artifacts=[folder / "policy.json"], steps=folder / "steps.jsonl")
    if "ric" in methods:
        add("ric", "", section("ric"), [out / "ric"], out / "ric" / "ric.json")
    if settings.get("diagnosis", {}).get("samples"):
        diagnosis = base / "diagnosis.json"
        add("diagnose", "", section("diagnosis"), [diagnosis], diagnosis)
    soups = [out / "soups" / f"{method}.json" for method in methods]
    add("soup", "", section("methods"), soups, artifacts=soups)
    for method in methods:
        folder = out / "fronts" / method
        small = [folder / "front.json", folder / "samples.parquet"]
        # The metrics of a method belong to its run, where MLflow compares runs; the report has computed them.
        add("front", method, section("generation", "evaluation"), [folder], artifacts=small, numbers=found_of(method))
    add(
        "report",
        "",
        section("evaluation", "report"),
        [base / "report.json", out / "report"],
        base / "report.json",
        artifacts=[out / "report"],
    )
    return found, missing


def plan(out: Path, groups: list[str]) -> Iterator[tuple[str, str, list[float]]]:
    """(group, slot, row) of every policy, from the plan that the stage `basis` wrote."""
    for group in groups:
        file = out / "rows" / f"{group}.json"
        if file.is_file():
            for slot, row in read_json(file)["slots"].items():
                yield group, slot, row


def _run(
    root: Path,
    stage: str,
    key: str,
    params: dict,
    outs: list[Path],
    metrics: Path | None,
    artifacts: list[Path] = (),
    steps: Path | None = None,
    numbers: dict[str, float] | None = None,
) -> StageRun | None:
    """None where an out is absent; a stage's outs are whole or absent. `numbers` are metrics beside those of a file."""
    if not all(path.exists() for path in [*outs, *([metrics] if metrics else [])]):
        return None
    numbers = (flat_numbers(read_json(metrics)) if metrics else {}) | (numbers or {})
    rows = read_jsonl(steps) if steps and steps.exists() else []
    if rows:
        numbers |= {f"final/{name}": value for name, value in flat_numbers(rows[-1]).items()}
    flat = flatten(params)
    made = digests(root, sorted({*outs, *([metrics] if metrics else [])}))
    fingerprint = digest(stage, key, flat, made, numbers)
    files = [path for path in [*artifacts, *([metrics] if metrics else [])] if path.exists() and _small(path)]
    return StageRun(stage, key, flat, numbers, rows, list(dict.fromkeys(files)), fingerprint)


def _small(path: Path) -> bool:
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    return sum(file.stat().st_size for file in files) <= ARTIFACT_LIMIT


def flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested dicts as {"a.b": leaf}; lists stay leaves."""
    if not isinstance(value, dict):
        return {prefix: value}
    flat = {}
    for name, item in value.items():
        flat |= flatten(item, f"{prefix}.{name}" if prefix else str(name))
    return flat


def flat_numbers(value: Any) -> dict[str, float]:
    """The numeric leaves of nested dicts; what is text, a list or null is left to the artifact."""
    return {
        name: float(item)
        for name, item in flatten(value).items()
        if isinstance(item, int | float) and not isinstance(item, bool)
    }
