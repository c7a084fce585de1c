"""A checkout follows its source's commits and settings, shares its storage, and leaves it unchanged."""

import shutil
import subprocess
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from bonesoup.workspace import checkout, graph

ROOT = Path(__file__).parents[2]
read = YAML(typ="safe").load


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
    done = subprocess.run(["git", *identity, *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture(scope="module")
def committed(tmp_path_factory) -> Path:
    """Commit the project as it stands in the working tree to a separate repository."""
    folder = tmp_path_factory.mktemp("source") / "project"
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file() and not name.startswith(("tests/", "docs/")):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "start")
    return folder


@pytest.fixture
def source(committed, tmp_path) -> Path:
    return Path(shutil.copytree(committed, tmp_path / "project", symlinks=True))


def settings(folder: Path) -> dict:
    return read((folder / "params.yaml").read_text())


def test_a_checkout_has_the_commit_and_the_settings_of_its_run(source):
    copy = checkout.folder(source, "nightly")
    overrides = {"seed": 7, "rl.steps": 9, "evaluation.references": [-1, -3]}
    sha = checkout.prepare(source, copy, "HEAD", "quick", overrides)
    assert sha == git(source, "rev-parse", "HEAD") == git(copy, "rev-parse", "HEAD")
    written = settings(copy)
    assert (written["seed"], written["rl"]["steps"], written["evaluation"]["references"]) == (7, 9, [-1, -3])
    assert git(source, "status", "--porcelain") == ""

    (source / "params.yaml").write_text((source / "params.yaml").read_text().replace("seed: 0", "seed: 5"))
    checkout.prepare(source, copy, "HEAD")
    assert settings(copy)["seed"] == 0, "what is not committed does not run"
    git(source, "commit", "-qam", "another seed")
    (copy / ".git/index.lock").touch()  # of a run that was killed
    checkout.prepare(source, copy, "HEAD")
    assert settings(copy)["seed"] == 5


def test_the_record_of_what_ran_outlives_a_change_of_commit(source):
    (source / "dvc.lock").write_text("schema: '2.0'\n# the person's\n")
    git(source, "add", "dvc.lock")
    git(source, "commit", "-qm", "lock")
    copy = checkout.folder(source, "nightly")
    checkout.prepare(source, copy, "HEAD~1")
    (copy / "dvc.lock").write_text("schema: '2.0'\n# the checkout's\n")
    checkout.prepare(source, copy, "HEAD")
    assert "the checkout's" in (copy / "dvc.lock").read_text()


def test_cache_and_remotes_are_those_of_the_source(source, tmp_path):
    from dvc.repo import Repo

    with Repo(str(source)) as repo, repo.config.edit("local") as config:
        config["remote"] = {"storage": {"url": str(tmp_path / "storage"), "jobs": 2}}
        config["core"]["remote"] = "storage"
    copy = checkout.folder(source, "nightly")
    checkout.prepare(source, copy, "HEAD")
    assert (copy / ".dvc/config.local").stat().st_mode & 0o077 == 0, "it may hold keys"
    with Repo(str(copy)) as repo:
        assert Path(repo.cache.local_cache_dir) == source / ".dvc/cache"
        assert repo.config["core"]["remote"] == "storage"
        assert Path(repo.config["remote"]["storage"]["url"]) == tmp_path / "storage"
        assert repo.config["remote"]["storage"]["jobs"] == 2


def test_a_file_that_only_the_source_has_is_named_by_its_absolute_path(source):
    (source.parent / "words.yaml").write_bytes((source / "src/bonesoup/data/embedded.yaml").read_bytes())
    (source / "scratch").mkdir()
    copy = checkout.folder(source, "nightly")
    checkout.prepare(source, copy, "HEAD", None, {"data.path": "../words.yaml"})
    assert settings(copy)["data"]["path"] == str(source.parent / "words.yaml")
    assert settings(copy)["model"]["source"] == "scratch"


@pytest.mark.parametrize(
    ("commit", "profile", "overrides", "message"),
    [
        ("nothing", None, {}, "has no commit 'nothing'"),
        ("--upload-pack=x", None, {}, "has no commit '--upload-pack=x'"),
        ("HEAD", "unheard-of", {}, "no profile 'unheard-of'"),
        ("HEAD", None, {"rl.stepz": 1}, "no setting 'rl.stepz'"),
        ("HEAD", None, {"rl.steps": -1}, "rl.steps: Input should be greater than 0"),
        ("HEAD", None, {"basis.beta": 0.5}, "basis.beta: must be in"),
    ],
)
def test_what_cannot_be_run_is_refused(source, commit, profile, overrides, message):
    with pytest.raises(ValueError, match=message):
        checkout.prepare(source, checkout.folder(source, "nightly"), commit, profile, overrides)


@pytest.mark.parametrize("name", ["../x", "/tmp/x", "", "a/b", ".git", "-x"])
def test_a_checkout_cannot_leave_its_folder(tmp_path, name):
    with pytest.raises(ValueError, match="checkout name"):
        checkout.folder(tmp_path, name)


def test_the_graph_is_in_running_order_from_any_folder(source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    read = graph.read(source)
    order = list(read.needs)
    assert all(order.index(need) < order.index(name) for name, needs in read.needs.items() for need in needs)
    assert "gate@reward" in read.upstream(["policy"])
    assert "policy@oracles" in read.upstream(["policy"])
    assert "soup" not in read.upstream(["policy"])
    assert read.upstream([]) == order
    assert read.downstream({"report"}) == {"report", "register"}
    with pytest.raises(ValueError, match="no stage 'nothing'"):
        read.upstream(["nothing"])
    # Nothing has run here.
    assert set(graph.status(source)) == set(order)


def test_a_source_that_was_moved_takes_its_checkouts_along(source):
    copy = checkout.folder(source, "nightly")
    checkout.prepare(source, copy, "HEAD")
    moved = source.rename(source.with_name("moved"))
    again = checkout.folder(moved, "nightly")
    git(moved, "commit", "-q", "--allow-empty", "-m", "after the move")
    assert checkout.prepare(moved, again, "HEAD") == git(moved, "rev-parse", "HEAD")


def test_checkouts_write_to_the_store_of_their_source(source, monkeypatch):
    from bonesoup.registry import store

    copy = checkout.folder(source, "nightly")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    uri = f"sqlite:///{source}/var/mlflow.db"
    assert store.tracking_uri(copy) == store.tracking_uri(source) == uri
    assert store.variables(source) == {"MLFLOW_TRACKING_URI": uri}
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///other.db")
    assert store.variables(source)["MLFLOW_TRACKING_URI"] == f"sqlite:///{source}/other.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    assert store.variables(source)["MLFLOW_TRACKING_URI"] == "http://127.0.0.1:5000"
