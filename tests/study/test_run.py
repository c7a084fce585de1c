"""A study of a toy pipeline: shared stages run once, failures are named, and whatever stops it, it goes on."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from prefect_server import until
from ruamel.yaml import YAML
from typer.testing import CliRunner

from bonesoup.cli.main import app
from bonesoup.files import read_json
from bonesoup.study import cells, results, run
from bonesoup.study.sharing import STAGES
from bonesoup.workspace.checkout import git

ROOT = Path(__file__).parents[2]
# Each stage notes the cell's beta and its name; `policy` waits while there is a file `hold`.
STAGE = """
import json, os, sys, time
from pathlib import Path
from ruamel.yaml import YAML
from bonesoup.locks import die_with_parent
die_with_parent()  # as every stage does
name, toy = sys.argv[1], Path(os.environ["TOY"])
beta = YAML(typ="safe").load(Path("params.yaml").read_text())["basis"]["beta"]
with open(toy / "ran.txt", "a") as out:
    print(name, beta, file=out)
if name == "policy":
    while (toy / "hold").exists():
        time.sleep(0.05)
    if beta == 0.9:
        sys.exit("bonesoup: nothing was learned")
out = Path("out/metrics/report.json" if name == "report" else f"out/{name}.json")
out.parent.mkdir(parents=True, exist_ok=True)
out.write_text((toy / "report.json").read_text() if name == "report" else json.dumps([name, beta]))
if name == "report":
    out.with_name("fronts.json").write_text((toy / "fronts.json").read_text())
Path("var").mkdir(exist_ok=True)
with open("var/stages.jsonl", "a") as times:
    print(json.dumps({"stage": name, "seconds": 1.5, "cpu": 1.0, "peak_mb": 10}), file=times)
"""
SETTINGS = {"default": {}, "broken": {"basis.beta": 0.9}, "low": {"basis.beta": 0.6}}


@pytest.fixture
def toy(plan, tmp_path, monkeypatch, made_report, made_fronts) -> Path:
    """Commit a pipeline of small stages with a study of three settings; return the folder for its notes."""
    notes = tmp_path / "var/toy"
    notes.mkdir(parents=True)
    monkeypatch.setenv("TOY", str(notes))
    for who in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{who}_NAME", "test")
        monkeypatch.setenv(f"GIT_{who}_EMAIL", "test@localhost")
    (notes / "report.json").write_text(json.dumps(made_report(0.05, 0.04, 0.2, None)))
    (notes / "fronts.json").write_text(json.dumps(made_fronts(0.04)))
    (tmp_path / "src").symlink_to(ROOT / "src")
    (tmp_path / "stage.py").write_text(STAGE)
    (tmp_path / "words.yaml").write_text("words\n")
    (tmp_path / "params.yaml").write_bytes((ROOT / "profiles/embedded.yaml").read_bytes())
    (tmp_path / ".gitignore").write_text("/var\n/out\n/scratch\n")
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc/config").write_text("[core]\n    analytics = false\n")
    (tmp_path / ".dvc/.gitignore").write_text("/config.local\n/tmp\n/cache\n")
    stages, before = {}, "words.yaml"
    for name in (*STAGES, "report"):
        out = f"out/{'metrics/' * (name == 'report')}{name}.json"
        reads = ["basis.beta"] if name == "policy" else ["seed"]
        stages[name] = {
            "cmd": f"{sys.executable} stage.py {name}",
            "deps": ["stage.py", before],
            "params": reads,
            "outs": [out, "out/metrics/fronts.json"] if name == "report" else [out],
        }
        before = out
    common = {"data.path": "words.yaml"}
    plan.write_text(json.dumps({"profile": "embedded", "common": common, "seeds": [0], "settings": SETTINGS}))
    with open(tmp_path / "dvc.yaml", "w") as out:
        YAML().dump({"stages": stages}, out)
    for command in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "--message", "toy"]):
        git(tmp_path, *command)
    return notes


def chosen(*settings: str) -> list[cells.Cell]:
    return cells.cells(cells.read("small"), [], list(settings))


def go(listed: list[cells.Cell], jobs: int = 1, seconds: float | None = None) -> run.Outcome:
    return run.run(Path.cwd(), "small", listed, jobs, seconds, lambda line: None, lambda text: None)


def ran(notes: Path) -> list[str]:
    return (notes / "ran.txt").read_text().split("\n")[:-1] if (notes / "ran.txt").is_file() else []


def at_work() -> list[psutil.Process]:
    running = psutil.process_iter(["cmdline", "cwd"])
    return [p for p in running if "stage.py" in (p.info["cmdline"] or ()) and str(Path.cwd()) in p.info["cwd"]]


@pytest.mark.slow
def test_cells_share_stages_and_a_failure_does_not_stop_the_others(toy):
    outcome = go(chosen(), jobs=2)
    assert sorted(outcome.done) == ["default-0", "low-0"]
    assert outcome.failed == {"broken-0": "stage policy failed: nothing was learned"}
    assert outcome.left == []
    shared = [line.split()[0] for line in ran(toy) if line.split()[0] not in ("policy", "report")]
    assert sorted(shared) == sorted(STAGES[:-1]), "a stage that the cells share ran twice"
    row = read_json(results.path("small", chosen("low")[0]))
    assert row["commit"] == git(Path.cwd(), "rev-parse", "HEAD")
    assert set(row["stages"]) == {*STAGES, "report"}
    assert [path.name for path in Path("var/study/small").glob("*-0")] == ["broken-0"], "it can be looked into"
    before = len(ran(toy))
    again = go(chosen(), jobs=2)
    assert list(again.failed) == ["broken-0"]
    assert len(ran(toy)) == before + 1, "of finished cells and stages none ran again"


def test_the_reason_of_a_failed_cell_is_printed_once(toy):
    result = CliRunner().invoke(app, ["study", "small", "--settings", "broken"])
    assert result.output.count("nothing was learned") == 1
    assert str(result.exception) == "1 of 1 cells failed, for the reasons above: broken-0"


@pytest.mark.slow
def test_a_study_goes_on_after_ctrl_c_and_kill(toy):
    def interrupt(running: str) -> None:
        if running.startswith("default-0: policy") and ran(toy)[-1] == "policy 0.7":
            assert len(at_work()) == 1
            raise KeyboardInterrupt

    (toy / "hold").touch()
    with pytest.raises(KeyboardInterrupt):
        run.run(Path.cwd(), "small", chosen("default"), 1, None, lambda line: None, interrupt)
    assert at_work() == []

    command = "import sys; from pathlib import Path; from bonesoup.study import cells, run; "
    command += "run.run(Path.cwd(), 'small', cells.cells(cells.read('small'), [], ['default']), 1, None, print, id)"
    process = subprocess.Popen([sys.executable, "-c", command], stdout=subprocess.DEVNULL)
    begun = len(ran(toy))
    until(lambda: len(ran(toy)) > begun, "the stage begins")
    assert len(at_work()) == 1
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    until(lambda: not at_work(), "the stage ends")

    (toy / "hold").unlink()
    outcome = go(chosen("default"))
    assert (outcome.done, outcome.failed) == (["default-0"], {})
    names = [line.split()[0] for line in ran(toy)]
    assert names == [*STAGES[:-1], "policy", "policy", "policy", "report"], "finished stages do not run again"


def test_data_that_differs_from_the_last_commit_is_refused(toy):
    Path("words.yaml").write_text("other words\n")
    outcome = go(chosen("default"))
    assert "words.yaml of the last commit, which differs from the present one" in outcome.failed["default-0"]
    assert not results.path("small", chosen("default")[0]).exists()


def test_a_study_whose_time_is_over_says_what_is_left(toy):
    assert go(chosen(), seconds=0).left == ["default-0", "broken-0", "low-0"]
    assert ran(toy) == []


@pytest.mark.slow
def test_a_cell_that_cannot_start_does_not_stop_the_others(toy):
    Path("var/study/small").mkdir(parents=True)
    Path("var/study/small/default-0").write_text("a file where a clone should be")
    outcome = go(chosen("default", "low"))
    assert outcome.done == ["low-0"]
    assert "Not a directory" in outcome.failed["default-0"]
