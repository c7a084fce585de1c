"""Each full-size profile, run from its data to its report: tiny models of its architectures stand in for the Hub's."""

import gzip
import importlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import hub_models
import pytest
import torch

from bonesoup.files import read_json
from bonesoup.paths import FRONTS, REPORT, REWARDS, SFT
from bonesoup.settings import params, profiles
from bonesoup.workspace import repro

pytestmark = pytest.mark.slow

# Profile -> architecture of its base, and of each of its reward models; those of pickles are pickles here too.
STAND_INS = {
    "assistant": ("llama", {"helpful": "gpt2", "harmless": "gpt2", "humor": "distilbert"}),
    "assistant-small": ("qwen3", {"helpful": "gpt2", "harmless": "gpt2", "humor": "distilbert"}),
    "summary": ("llama", {"faithful": "bart", "preference": "gpt2"}),
}
# A budget of seconds; whatever else a profile says stays.
SHORT = {
    "device": "cpu",
    "model.context": 512,
    "data.validation": 0.2,
    "data.test": 0.2,
    "sft.steps": 3,
    "sft.batch": 4,
    "normalise.samples": 16,
    "generation.max_new_tokens": 8,
    "rl.steps": 5,
    "rl.prompts": 2,
    "rl.generations": 2,
    "rl.micro_batch": 2,
    "rl.warmup_steps": 1,
    "rl.limits": {"kl": 1e6, "entropy": 0.0},
    "evaluation.samples": 8,
    "evaluation.batch": 32,
    "evaluation.bootstrap": 20,
    "seek.samples": 8,
    "report.prompts": 2,
}


def dialogues(folder: Path) -> Path:
    """Write hh-rlhf as the Hub has it: a folder for each part, with its splits as gzipped JSON lines."""
    for part in ("harmless-base", "helpful-base"):
        (folder / part).mkdir(parents=True)
        for split, count in (("train", 24), ("test", 4)):
            rows = []
            for k in range(count):
                start = f"\n\nHuman: {hub_models.TEXTS[k % 5]} ({part} {k})\n\nAssistant:"
                # As long as each other: which is longer must not tell.
                rows.append({"chosen": f"{start} Well, yes {k}.", "rejected": f"{start} Sorry, no{' no' * (k % 3)}."})
            with gzip.open(folder / part / f"{split}.jsonl.gz", "wt") as out:
                out.writelines(json.dumps(row) + "\n" for row in rows)
    return folder


def comparisons(folder: Path) -> Path:
    """Write summarize_from_feedback as the Hub has converted it: Parquet below the name of each part."""
    from datasets import Dataset

    rows = []
    for k in range(40):
        info = {"id": f"t3_{k}", "post": f"{hub_models.TEXTS[2]} ({k})", "title": "Bitten", "subreddit": "advice"}
        texts = (f" Bitten {k}.", f" My dog{' dog' * (k % 3)}")
        summaries = [{"text": text, "policy": "sup", "note": None} for text in texts]
        rows.append({"info": info, "summaries": summaries, "choice": k % 2})
    (folder / "comparisons/train").mkdir(parents=True)
    Dataset.from_list(rows).to_parquet(folder / "comparisons/train/0000.parquet")
    return folder


@pytest.mark.parametrize("name", STAND_INS)
def test_a_profile_runs_from_its_data_to_its_report(name, tmp_path, monkeypatch, request):
    root, project, hub = request.config.rootpath, tmp_path / "project", tmp_path / "hub"
    project.mkdir()
    shutil.copy(root / "dvc.yaml", project)
    shutil.copytree(root / "profiles", project / "profiles")
    (project / "src").symlink_to(root / "src")
    monkeypatch.chdir(project)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    torch.set_num_threads(1)
    base, judges = STAND_INS[name]
    # The search for beta, as long as all the rest, is run once.
    once = {} if name == "summary" else {"seek.betas": []}
    changes = (
        SHORT
        | once
        | {
            "data.hub": str(comparisons(hub / "data") if name == "summary" else dialogues(hub / "data")),
            "model.source": str(hub_models.policy(base, hub / "base")),
        }
    )
    for objective, architecture in judges.items():
        pickled = profiles.draft(name).rewards[objective].convert_bin
        folder = hub_models.reward(architecture, hub / objective, pickled)
        changes[f"rewards.{objective}.model"] = str(folder)
    profiles.write(name, changes=changes)
    settings = params.load()
    repro.check_inputs(settings)
    for stage in order(project):
        if stage != "register":
            stage, _, key = stage.partition("@")
            importlib.import_module(f"bonesoup.stages.{stage}").run(settings, key or None)
    assert sorted(path.name for path in FRONTS.iterdir()) == sorted(settings.methods)
    assert (REPORT / "index.html").is_file()
    for objective in judges:
        assert 0 <= read_json(REWARDS / objective / "reward.json")["accuracy"] <= 1
    from transformers import AutoConfig

    assert AutoConfig.from_pretrained(SFT).dtype == torch.bfloat16


def order(project: Path) -> list[str]:
    """List the stages as DVC orders them, in a separate process, since it holds locks."""
    code = "from pathlib import Path; from bonesoup import graph; print(*graph.read(Path('.')).needs)"
    subprocess.run([sys.executable, "-m", "dvc", "init", "--no-scm", "--quiet"], cwd=project, check=True)
    done = subprocess.run([sys.executable, "-c", code], cwd=project, capture_output=True, text=True, check=True)
    return done.stdout.split()
