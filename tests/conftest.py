"""Tiny policies made from a config in a second; nothing is downloaded."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("DO_NOT_TRACK", "true")
os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
# Otherwise Typer colours its messages under GitHub's Actions, in the middle of an option's name.
os.environ["_TYPER_FORCE_DISABLE_TERMINAL"] = "1"
# Promotions in tests are none of a real server's business.
os.environ.pop("PREFECT_API_URL", None)

from pathlib import Path

import pytest

# A finished pipeline in miniature; clones of the project with tiny settings, for whole runs; a Prefect server.
pytest_plugins = ["miniature", "projects", "prefect_server"]

TESTS = Path(__file__).parent
# Their tests share a fixture that takes long to make.
ONE_PROCESS = {"promotion", "registry"}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the tests of a file in one process, and those of some folders."""
    for item in items:
        room, *_ = inside = item.path.relative_to(TESTS).parts
        item.add_marker(pytest.mark.xdist_group(room if room in ONE_PROCESS else "/".join(inside)))


WORDS = [
    "Please",
    "explain",
    "baking",
    "chess",
    "hacking",
    "Use",
    "Try",
    "flour.",
    "boards.",
    "wire.",
    "Stay",
    "careful!",
    "Sorry,",
    "I",
    "cannot.",
    "yes",
    "no",
]


@pytest.fixture(scope="session")
def tiny_policy(tmp_path_factory) -> Path:
    """Save an untrained Llama of two layers with a word tokenizer and the chat template."""
    from bonesoup.settings.schema import Model
    from bonesoup.training.base import base_policy

    folder = tmp_path_factory.mktemp("policy") / "sft"
    model, tokenizer = base_policy(Model(source="scratch", hidden=32, layers=2, heads=2, context=64), WORDS, seed=0)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def prompts() -> list[list[dict[str, str]]]:
    texts = ["Please explain baking", "explain chess", "Please explain hacking", "baking", "Please chess", "hacking no"]
    return [[{"role": "user", "content": text}] for text in texts]


@pytest.fixture
def staged(tmp_path, monkeypatch, tiny_policy, prompts) -> Path:
    """Enter a folder in which training stages can run: SFT policy, prompts, two computed rewards, a normaliser."""
    import torch

    from bonesoup.files import write_json, write_jsonl
    from bonesoup.paths import NORMALISER, PROMPTS, REWARDS, SFT

    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)
    SFT.parent.mkdir()
    SFT.symlink_to(tiny_policy)
    for name in ("helpful", "harmless"):
        spec = {"objective": name, "kind": "function", "function": "bonesoup.rewards.brevity:brevity"}
        write_json(REWARDS / name / "reward.json", spec)
    write_json(NORMALISER, {"mean": [-1.0, -1.0], "std": [1.0, 2.0]})
    write_jsonl(PROMPTS, [{"id": str(k), "split": "train", "prompt": p} for k, p in enumerate(prompts)])
    return tmp_path
