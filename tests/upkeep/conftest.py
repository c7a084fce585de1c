"""Small projects to look after: one with two results in its cache, one that registers run after run."""

import shutil
from pathlib import Path

import pytest
from miniature import another, copied, graph, write_graph

from bonesoup.workspace import objects

GRAPH = """
stages:
  policy: {cmd: "true", outs: [out/policies]}
  report: {cmd: "true", deps: [out/policies], outs: [out/report.json]}
"""


@pytest.fixture
def tracked(tmp_path) -> Path:
    root = tmp_path / "project"
    (root / ".dvc").mkdir(parents=True)
    (root / ".dvc/config").write_text("[core]\n    no_scm = true\n    analytics = false\n")
    (root / "dvc.yaml").write_text(GRAPH)
    for name in ("policies/a.json", "policies/b/c.json", "report.json"):
        file = root / "out" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"content of {name}")
    objects.dvc(root, "commit", "--force", "--quiet")
    return root


@pytest.fixture(scope="session")
def project(miniature):
    return miniature


@pytest.fixture
def house(miniature, empty_store, tmp_path, monkeypatch):
    """Make such a project, with no run yet."""
    from house import House

    from bonesoup.registry.store import LOCAL_DATABASE

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("MLFLOW_REGISTRY_URI", raising=False)
    root = another(miniature, tmp_path / "house", {}, 0).root
    copied(empty_store, root / LOCAL_DATABASE)
    shutil.rmtree(root / ".dvc/cache")
    stages = graph()
    del stages["register"]
    stages["policy"]["do"]["deps"] = ["data/tracked.txt"]
    write_graph(root, stages)
    (root / "dvc.lock").unlink()
    return House(root, miniature.settings_text, miniature.preferences)
