"""A small DVC project with two results, committed to its cache."""

from pathlib import Path

import pytest

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
