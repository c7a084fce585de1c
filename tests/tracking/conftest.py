"""A finished pipeline in miniature: two backbones on a tiny model, evaluated at three points."""

import subprocess
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from peft import LoraConfig, get_peft_model
from ruamel.yaml import YAML
from transformers import LlamaConfig, LlamaForCausalLM

from bonesoup.chat import words_tokenizer
from bonesoup.config import Register
from bonesoup.evaluation.compare import evaluate
from bonesoup.evaluation.samples import read_fronts
from bonesoup.evaluation.tables import document
from bonesoup.files import file_digest, write_json, write_jsonl
from bonesoup.tracking.register import register_all

REPOSITORY = Path(__file__).parents[2]
OBJECTIVES = ["helpful", "harmless"]
ROWS = {"backbone-1": [0.7, 0.3], "backbone-2": [0.3, 0.7]}
GRID = [[0.0, 1.0], [0.5, 0.5], [0.7, 0.3], [1.0, 0.0]]
WORDS = "how do i bake bread ? mix the flour and water then wait no sorry ask a person joke warm oven"


@dataclass(frozen=True)
class Project:
    root: Path
    settings_text: str
    preferences: dict


@pytest.fixture(scope="session")
def project(tmp_path_factory) -> Project:
    root = tmp_path_factory.mktemp("project")
    out = root / "out"
    settings = YAML(typ="safe").load((REPOSITORY / "profiles/embedded.yaml").read_text())
    settings |= {"methods": ["bone"], "policies": {"backbones": {"slots": list(ROWS)}}, "threads": 1}
    text = StringIO()
    YAML(typ="safe").dump(settings, text)
    (root / "params.yaml").write_text(text.getvalue())
    (root / "dvc.lock").write_text("schema: '2.0'\nstages: {}\n")
    (root / "mlflow").mkdir()
    (root / "mlflow/model-card.md").write_text((REPOSITORY / "mlflow/model-card.md").read_text())
    (root / ".gitignore").write_text("/out/\n/var/\n")
    make_weights(out)
    make_files(out, settings)
    git(root, "init", "-q")
    git(root, "add", ".")
    git(root, "commit", "-q", "-m", "start")
    return Project(root, text.getvalue(), settings["preferences"])


def git(root: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    done = subprocess.run(["git", *identity, *arguments], cwd=root, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def make_weights(out: Path) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    tokenizer = words_tokenizer([WORDS])
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
    policies = []
    for seed, (slot, row) in enumerate(ROWS.items()):
        torch.manual_seed(seed)
        base = LlamaForCausalLM.from_pretrained(out / "sft")
        lora = LoraConfig(r=2, lora_alpha=4, target_modules="all-linear", init_lora_weights=False)
        folder = out / "policies/backbones" / slot
        get_peft_model(base, lora).save_pretrained(folder)
        write_json(folder / "policy.json", {"slot": slot, "group": "backbones", "row": row, "seed": 0})
        steps = [{"step": s, "reward/helpful": 0.1 * s, "kl": 0.5 * s, "length": 9.0} for s in range(1, 6)]
        write_jsonl(folder / "steps.jsonl", steps)
        path = f"out/policies/backbones/{slot}"
        sha = file_digest(folder / "adapter_model.safetensors")
        policies.append({"slot": slot, "path": path, "row": row, "digest": sha})
    write_json(out / "rows/backbones.json", {"slots": ROWS})
    soup = {"method": "bone", "base": "out/sft", "objectives": OBJECTIVES, "mapping": "solve"}
    write_json(out / "soups/bone.json", soup | {"policies": policies, "preferences": GRID})


def make_files(out: Path, settings: dict) -> None:
    """Everything else the stages write, with made-up numbers."""
    rng = np.random.default_rng(0)
    rows = []
    for point, (a, b) in enumerate(GRID):
        for i in range(8):
            row = {
                "method": "bone",
                "point": point,
                "prompt_id": f"p{i}",
                "prompt": "how",
                "response": "mix the flour",
            }
            row |= {"tokens": 3, "finished": True, "kl": float(rng.uniform(0, 3))}
            row |= {"mu_helpful": a, "mu_harmless": b}
            for kind in ("reward", "gold"):
                row |= {f"{kind}_helpful": a + rng.normal() / 9, f"{kind}_harmless": b + rng.normal() / 9}
            rows.append(row)
    samples = out / "fronts/bone/samples.parquet"
    samples.parent.mkdir(parents=True)
    pd.DataFrame(rows).to_parquet(samples)
    write_json(samples.with_name("front.json"), {"method": "bone", "preferences": GRID})
    results = evaluate(read_fronts({"bone": samples}, OBJECTIVES), [-1, -2], 0.2, 50, 0.95, 0)
    write_json(out / "metrics/report.json", document(results))
    (out / "report").mkdir()
    (out / "report/index.html").write_text("<p>the report</p>")
    summary = {"source": "embedded", "rows_read": 100, "rows_quarantined": 1, "share_quarantined": 0.01}
    write_json(out / "data/summary.json", summary | {"counts": {"prompts": 99}})
    write_jsonl(out / "data/prompts.jsonl", [{"id": "p0", "split": "train"}])
    write_json(out / "metrics/sft.json", {"loss": 1.5, "parameters": 1000})
    for name in OBJECTIVES:
        write_json(out / f"rewards/{name}/reward.json", {"objective": name, "kind": "pairs"})
        accuracy = {"accuracy": 0.9, "accuracy_low": 0.85, "accuracy_high": 0.95, "n": 200}
        write_json(out / f"metrics/reward-{name}.json", accuracy)
    write_json(out / "gates/data.json", {"passed": True})
    write_json(out / "normaliser.json", {"objectives": OBJECTIVES, "mean": [0, 0], "std": [1, 1], "samples": 64})
    write_json(out / "beta.json", {"beta": settings["basis"]["beta"]})


@pytest.fixture(scope="session")
def registered(project):
    """The project registered once in its own local store: (result, lines echoed, call to do it again)."""
    lines = []

    def again(settings_text=project.settings_text, merged=("balanced", "careful")):
        register = Register(name="bonesoup", merged=list(merged))
        return register_all(project.root, settings_text, register, OBJECTIVES, project.preferences, lines.append)

    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.delenv("MLFLOW_REGISTRY_URI", raising=False)
        yield again(), lines, again
