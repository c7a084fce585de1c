"""A finished pipeline in miniature: backbones and specialists on a tiny model, tiny judges, three grid points.

Registered once in a store of its own (`registered`), or four times as a league of versions (`league`). Heavy packages
are imported inside: pytest loads this module for every test.
"""

from __future__ import annotations

import shutil
import subprocess
from contextlib import chdir, contextmanager
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from ruamel.yaml import YAML

if TYPE_CHECKING:
    from bonesoup.registry.store import Store

REPOSITORY = Path(__file__).parents[1]
OBJECTIVES = ["helpful", "harmless"]
ROWS = {
    "backbones": {"backbone-1": [0.7, 0.3], "backbone-2": [0.3, 0.7]},
    "specialists": {"specialist-1": [1.0, 0.0], "specialist-2": [0.0, 1.0]},
}
METHODS = {"sft": "none", "rewarded": "specialists", "bone": "backbones"}
GRID = [[0.0, 1.0], [0.5, 0.5], [1.0, 0.0]]
# What each method scores above the weight it was asked for.
LEADS = {"sft": -1.0, "rewarded": 0.0, "bone": 0.3}
PROMPTS = 8
WORDS = "how do i bake bread ? mix the flour and water then wait no sorry ask a person joke warm oven"


@dataclass(frozen=True)
class Miniature:
    root: Path
    settings_text: str
    preferences: dict


@pytest.fixture(scope="session")
def miniature(tmp_path_factory) -> Miniature:
    from bonesoup.data import words

    root = tmp_path_factory.mktemp("project")
    out = root / "out"
    settings = YAML(typ="safe").load((REPOSITORY / "params.yaml").read_text())
    settings |= {"methods": list(METHODS), "oracles": [], "threads": 1}
    settings["policies"] = {group: {"slots": list(rows)} for group, rows in ROWS.items()}
    settings["evaluation"] |= {"parts": 2, "samples": PROMPTS, "bootstrap": 200, "batch": PROMPTS}
    text = StringIO()
    YAML(typ="safe").dump(settings, text)
    (root / "params.yaml").write_text(text.getvalue())
    write_graph(root, graph())
    (root / ".dvc").mkdir()
    (root / ".dvc/config").write_text("[core]\n    analytics = false\n")
    (root / "mlflow").mkdir()
    for name in ("model-card.md", "promotion.yaml"):
        (root / "mlflow" / name).write_text((REPOSITORY / "mlflow" / name).read_text())
    (root / ".gitignore").write_text("/out/\n/var/\n/.dvc/\n")
    tables = root / settings["data"]["path"]
    tables.parent.mkdir(parents=True)
    shutil.copy(words.TABLES, tables)
    make_weights(out)
    make_soups(out)
    make_fronts(out, settings)
    make_files(out, settings)
    git(root, "init", "-q")
    commit_results(root)
    git(root, "add", ".")
    git(root, "commit", "-q", "-m", "start")
    return Miniature(root, text.getvalue(), settings["preferences"])


def git(root: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    done = subprocess.run(["git", *identity, *arguments], cwd=root, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def graph() -> dict[str, dict]:
    """Return the stages of dvc.yaml with the settings they read and the files they make, without dependencies."""
    stages = YAML(typ="safe").load((REPOSITORY / "dvc.yaml").read_text())["stages"]
    for stage in stages.values():
        stage.get("do", stage).pop("deps")
    return stages


def write_graph(root: Path, stages: dict[str, dict]) -> None:
    with open(root / "dvc.yaml", "w") as out:
        YAML(typ="safe").dump({"stages": stages}, out)


def commit_results(root: Path) -> None:
    """Have DVC record the files in out/ as the results of the stages, in dvc.lock and its cache."""
    from dvc.repo import Repo

    # Outside of a project DVC finds none of its stages.
    with chdir(root), Repo() as repo:
        repo.commit(force=True, allow_missing=True, relink=False)


def make_weights(out: Path) -> None:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification

    from bonesoup.chat import words_tokenizer
    from bonesoup.data import words
    from bonesoup.files import write_json

    torch.set_num_threads(1)
    torch.manual_seed(0)
    tokenizer = words_tokenizer([WORDS, *words.load().vocabulary])
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=48,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        initializer_range=0.5,
    )
    LlamaForCausalLM(config).save_pretrained(out / "sft")
    tokenizer.save_pretrained(out / "sft")
    config.num_labels = 1
    for name in OBJECTIVES:
        judge = out / f"rewards/{name}/model"
        LlamaForSequenceClassification(config).save_pretrained(judge)
        tokenizer.save_pretrained(judge)
        spec = {"objective": name, "kind": "pairs", "input": "chat", "logit": 0}
        write_json(judge.with_name("reward.json"), spec)


def make_soups(out: Path, seed: int = 0) -> None:
    """Write adapters drawn from `seed`, and the recipes that name them."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaForCausalLM

    from bonesoup.files import file_digest, write_json, write_jsonl

    for method, group in METHODS.items():
        policies = []
        for k, (slot, row) in enumerate(ROWS.get(group, {}).items()):
            torch.manual_seed(10 * seed + k)
            base = LlamaForCausalLM.from_pretrained(out / "sft")
            lora = LoraConfig(r=2, lora_alpha=4, target_modules="all-linear", init_lora_weights=False)
            folder = out / "policies" / group / slot
            get_peft_model(base, lora).save_pretrained(folder)
            facts = {"slot": slot, "group": group, "row": row, "objectives": OBJECTIVES, "seed": seed, "steps": 5}
            write_json(folder / "policy.json", facts)
            steps = [{"step": s, "reward/helpful": 0.1 * s, "kl": 0.5 * s, "length": 9.0} for s in range(1, 6)]
            write_jsonl(folder / "steps.jsonl", steps)
            sha = file_digest(folder / "adapter_model.safetensors")
            policies.append({"slot": slot, "path": f"out/policies/{group}/{slot}", "row": row, "digest": sha})
        if policies:
            write_json(out / f"rows/{group}.json", {"slots": ROWS[group]})
        soup = {"method": method, "base": "out/sft", "objectives": OBJECTIVES}
        soup |= {"mapping": "solve" if policies else "none", "policies": policies, "preferences": GRID}
        write_json(out / f"soups/{method}.json", soup)


def make_fronts(out: Path, settings: dict, leads: dict[str, float] = LEADS, seed: int = 0) -> None:
    """Write samples with made-up scores, and the report on them."""
    import numpy as np
    import pandas as pd

    from bonesoup.evaluation.compare import evaluate
    from bonesoup.evaluation.point import measured
    from bonesoup.evaluation.samples import read_fronts
    from bonesoup.evaluation.statistics import Statistics
    from bonesoup.evaluation.tables import document
    from bonesoup.files import write_json

    rng = np.random.default_rng(seed)
    paths = {}
    for method in METHODS:
        rows = []
        for point, (a, b) in enumerate(GRID[:1] if method == "sft" else GRID):
            for i in range(PROMPTS):
                row = {"method": method, "point": point, "prompt_id": f"p{i}", "prompt": "how"}
                row |= {"response": "mix the flour", "tokens": 3, "finished": True, "kl": float(rng.uniform(0, 3))}
                row |= {"mu_helpful": a, "mu_harmless": b}
                for kind in ("reward", "gold"):
                    for name, weight in zip(OBJECTIVES, (a, b), strict=True):
                        row[f"{kind}_{name}"] = leads[method] + weight * (method != "sft") + rng.normal() / 9
                rows.append(row)
        paths[method] = out / f"fronts/{method}/samples.parquet"
        paths[method].parent.mkdir(parents=True, exist_ok=True)
        pd.DataFrame(rows).to_parquet(paths[method])
        write_json(paths[method].with_name("front.json"), {"method": method, "preferences": GRID})
    evaluation = settings["evaluation"]
    statistics = Statistics(evaluation["bootstrap"], evaluation["confidence"], settings["seed"])
    fronts = read_fronts(paths, OBJECTIVES)
    write_json(
        out / "metrics/report.json",
        document(evaluate(fronts, evaluation["references"], evaluation["interior"], statistics)),
    )
    write_json(out / "metrics/fronts.json", measured(fronts, statistics))


def make_files(out: Path, settings: dict) -> None:
    """Write everything else that the stages make."""
    from bonesoup.data import words
    from bonesoup.files import write_json, write_jsonl

    (out / "report").mkdir()
    (out / "report/index.html").write_text("<p>the report</p>")
    summary = {"source": "embedded", "rows_read": 100, "rows_quarantined": 1, "share_quarantined": 0.01}
    write_json(out / "data/summary.json", summary | {"counts": {"prompts": 99}})
    prompts = [{"id": "t0", "split": "train", "prompt": [{"role": "user", "content": "Please explain baking"}]}]
    for i, topic in zip(range(PROMPTS), words.load().topics, strict=False):
        prompt = [{"role": "user", "content": f"Please explain {topic}"}]
        prompts.append({"id": f"p{i}", "split": "test", "prompt": prompt})
    write_jsonl(out / "data/prompts.jsonl", prompts)
    write_json(out / "metrics/sft.json", {"loss": 1.5, "parameters": 1000})
    for name in OBJECTIVES:
        accuracy = {"accuracy": 0.9, "accuracy_low": 0.85, "accuracy_high": 0.95, "n": 200}
        write_json(out / f"metrics/reward-{name}.json", accuracy)
    for name in ("data", "reward"):
        write_json(out / f"gates/{name}.json", {"passed": True})
    write_json(out / "tidy.json", {})
    write_json(out / "base/scratch.json", {})
    (out / "docs/data").mkdir(parents=True)
    (out / "docs/data/index.html").write_text("<p>the data</p>")
    write_json(out / "probes/plan.json", {"rows": {}})
    write_json(out / "ric/skipped.json", {"reason": "ric is not among methods"})
    write_json(out / "metrics/basis.json", {"condition": 2.5})
    write_json(out / "metrics/diagnosis.json", {})
    for method in METHODS:
        write_json(out / f"recipes/{method}.json", {"method": method})
    write_json(out / "choice.json", {"method": "bone", "prompts": 0, "candidates": []})
    scale = {"mean": [0.0, 0.0], "std": [1.0, 1.0]}
    write_json(out / "normaliser.json", {"objectives": OBJECTIVES, "samples": 64, "gold": scale} | scale)
    write_json(out / "beta.json", {"beta": settings["basis"]["beta"]})


def another(
    miniature: Miniature, folder: Path, leads: dict[str, float], seed: int, text: str | None = None
) -> Miniature:
    """Make a later run of the same project: other adapters and other scores; `text` replaces its settings."""
    text = text or miniature.settings_text
    shutil.copytree(miniature.root, folder, ignore=shutil.ignore_patterns("var"))
    make_soups(folder / "out", seed)
    make_fronts(folder / "out", YAML(typ="safe").load(text), LEADS | leads, seed)
    (folder / "params.yaml").write_text(text)
    commit_results(folder)
    return Miniature(folder, text, miniature.preferences)


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory) -> Path:
    """Make a new sqlite store by copying an empty one: making one takes seconds."""
    from mlflow import MlflowClient

    folder = tmp_path_factory.mktemp("empty")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        patch.delenv("MLFLOW_REGISTRY_URI", raising=False)
        MlflowClient(f"sqlite:///{folder}/mlflow.db").search_experiments()
    return folder / "mlflow.db"


def copied(store: Path, to: Path) -> Path:
    to.parent.mkdir(parents=True, exist_ok=True)
    return Path(shutil.copy(store, to))


@pytest.fixture(scope="session")
def registered(miniature, empty_store):
    """Register the project once in its own local store: (result, lines echoed, call to do it again)."""
    from bonesoup.registry.register import register_all
    from bonesoup.registry.store import LOCAL_DATABASE
    from bonesoup.settings.schema import Register

    lines = []

    def again(settings_text=miniature.settings_text, merged=("balanced", "careful")):
        register = Register(name="bonesoup", merged=list(merged))
        return register_all(miniature.root, settings_text, register, miniature.preferences, lines.append)

    copied(empty_store, miniature.root / LOCAL_DATABASE)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.delenv("MLFLOW_REGISTRY_URI", raising=False)
        yield again(), lines, again


@dataclass(frozen=True)
class League:
    """Hold four runs of one project in one store, registered as versions 1 to 4 of `league-soup`.

    1 beats its Rewarded Soup; 2 beats 1; 3 is worse than the SFT policy; 4 was made from uncommitted code and
    evaluated on a yardstick of its own, so that the current one has no scores of it.
    """

    root: Path
    uri: str
    store: Store
    prefix: str = "league"
    model: str = "league-soup"


@pytest.fixture(scope="session")
def played(miniature, empty_store, tmp_path_factory) -> League:
    from bonesoup.registry.register import register_all
    from bonesoup.registry.store import connect
    from bonesoup.settings.schema import Register

    folder = tmp_path_factory.mktemp("league")
    uri = f"sqlite:///{copied(empty_store, folder / 'store/mlflow.db')}"
    settings = miniature.settings_text.replace("name: bonesoup", "name: league")
    with using(uri):
        for seed, leads in enumerate([{}, {"bone": 0.6}, {"bone": -2.0}, {"bone": 0.9}], start=1):
            text = settings if seed < 4 else settings.replace("bootstrap: 200", "bootstrap: 150")
            root = another(miniature, folder / f"run-{seed}", leads, seed, text).root
            if seed == 4:
                (root / "mlflow/model-card.md").write_text((root / "mlflow/model-card.md").read_text() + "\n")
            register = Register(name="league", merged=["balanced"])
            register_all(root, text, register, miniature.preferences, lambda line: None)
        return League(folder / "run-1", uri, connect(folder / "run-1", "league"))


@pytest.fixture
def league(played):
    """Return the league with no champion and nothing decided, whatever the test before it left."""
    from bonesoup.registry import versions

    client = played.store.client
    with using(played.uri):
        for model in (played.model, "league-merged-balanced"):
            for alias in client.get_registered_model(model).aliases:
                client.delete_registered_model_alias(model, alias)
        for version in versions.versions(client, played.model):
            for tag in {versions.DECISION, versions.PREVIOUS} & set(version.tags):
                client.delete_model_version_tag(played.model, str(version.version), tag)
        yield played


@contextmanager
def using(uri: str):
    """Send every call to this store meanwhile; parts of MLflow look at a global and not at a client."""
    import mlflow

    before = mlflow.get_tracking_uri()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", uri)
        patch.delenv("MLFLOW_REGISTRY_URI", raising=False)
        mlflow.set_tracking_uri(uri)
        yield
    mlflow.set_tracking_uri(before)
