"""The command line: its output, its exit status, and how little it imports."""

import json
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import typer
from ruamel.yaml import YAML
from soup_server import fronts, make_version

from bonesoup.cli import options
from bonesoup.cli.main import app, main
from bonesoup.files import write_json
from bonesoup.settings import params
from bonesoup.workspace.repro import check_targets, failure

ROOT = Path(__file__).parents[2]
HEAVY = {"torch", "transformers", "mlflow", "pandas", "great_expectations", "matplotlib", "dvc", "datasets"}
COMMANDS = sorted(typer.main.get_command(app).commands)


@pytest.fixture
def project(tmp_path) -> Path:
    """Make a folder with the files a command line needs to start, and none that a pipeline makes."""
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "profiles", tmp_path / "profiles")
    return tmp_path


@dataclass(frozen=True)
class Done:
    status: int
    out: str
    err: str


@pytest.fixture
def bonesoup(project, monkeypatch, capfd):
    """Return a function that runs the command line in this process, as if typed in `project`."""
    monkeypatch.chdir(project)
    monkeypatch.setenv("BONESOUP_DEBUG", "")
    # Messages are compared as one line.
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")

    def run(*words: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["bonesoup", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        return Done(ended.value.code or 0, *capfd.readouterr())

    return run


def change(folder: Path, **values) -> None:
    yaml = YAML()
    document = yaml.load(folder / "params.yaml") | values
    yaml.dump(document, folder / "params.yaml")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_shows_an_example_of_itself(command):
    text = typer.main.get_command(app).commands[command].help
    example = text.partition("Example:")[2]
    assert f"bonesoup {command}" in example, f"{command} --help has no example"


LOADED = """
import json, sys
from bonesoup.cli.main import app
sys.argv = ["bonesoup", "--help"]
try:
    app()
except SystemExit as end:
    assert not end.code
print(json.dumps(sorted({name.split(".")[0] for name in sys.modules})))
"""


def test_help_imports_nothing_heavy():
    done = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, check=True)
    loaded = set(json.loads(done.stdout.splitlines()[-1]))
    assert "bonesoup" in loaded
    assert not loaded & HEAVY


def test_a_process_of_its_own_gives_the_same_status(project):
    command = [sys.executable, "-m", "bonesoup.cli", "profile", "embeded"]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("bonesoup: no profile 'embeded'")
    assert done.stdout == ""


@pytest.mark.parametrize("token", ["two words", "caf\u00e9", " \n"])
def test_a_token_that_no_client_could_send_is_refused(bonesoup, monkeypatch, token):
    monkeypatch.setenv("BONESOUP_TOKEN", token)
    refused = bonesoup("serve")
    assert refused.status == 1
    assert "BONESOUP_TOKEN must hold one token of printable ASCII characters" in refused.err


def test_no_command_prints_the_help_and_is_bad_usage(bonesoup):
    shown = bonesoup()
    assert shown.status == 2
    assert "summary" in shown.out + shown.err


@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help_succeeds(option, bonesoup):
    assert bonesoup("soup", option).status == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["rnu"], "No such command 'rnu'"),
        (["soup", "--out", "x"], "--preference"),
        (["soup", "--preference", "balanced", "--frobnicate"], "--frobnicate"),
        (["generate", "--seed", "many", "--preference", "balanced", "--prompt", "x"], "'--seed'"),
        (["stage"], "Missing argument"),
        (["stage", "polcy"], "no stage 'polcy'"),
        (["stage", "../cli"], "no stage"),
        (["stage", "policy"], "needs a key: specialists, backbones, curves, oracles"),
        (["stage", "policy", "frontbones"], "no key 'frontbones': specialists, backbones, curves, oracles"),
        (["stage", "reward", "humour"], "no key 'humour': helpful, harmless"),
        (["stage", "seek", "bone"], "takes no key"),
    ],
)
def test_bad_usage_is_status_2_and_goes_to_stderr(words, said, project, bonesoup):
    done = bonesoup(*words)
    assert done.status == 2, done.err
    assert done.out == ""
    assert said in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["profile", "embeded"], "no profile 'embeded'; there are: assistant,"),
        (["soup", "--preference", "evn", "--out", "x"], "'evn' is neither a named preference (balanced"),
        (["soup", "--preference", "helpful=0.7,harmless=0.7", "--out", "x"], "weights sum to 1.4, not 1"),
        (["soup", "--preference", "balanced", "--out", "x"], "out/choice.json does not exist: `bonesoup run` chooses"),
        (["soup", "--preference", "balanced", "--method", "bone", "--out", "x"], "no soup 'bone' in out/soups; there"),
        (["generate", "--preference", "balanced", "--prompt", "x", "--method", "bone"], "`bonesoup run` makes them"),
        (["summary"], "`bonesoup run` makes it"),
        (["soup", "--preference", "harmless>=0.2", "--out", "x"], "names no objective to maximize"),
        (
            ["generate", "--preference", "harmless>=0.2,maximize=helpful", "--prompt", "x"],
            "out/metrics/fronts.json does not exist: an outcome needs a measured front",
        ),
    ],
)
def test_a_failure_is_status_1_and_one_block_on_stderr(words, said, project, bonesoup):
    done = bonesoup(*words)
    assert done.status == 1, done.out + done.err
    assert done.out == ""
    assert done.err.startswith("bonesoup: ")
    assert said in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize("words", ["run", "stage seek", "soup --preference balanced --out x", "register"])
def test_all_faults_of_the_settings_come_at_once(words, project, bonesoup):
    change(project, basis={"beta": 7}, sede=1)
    done = bonesoup(*words.split())
    assert done.status == 1
    assert done.err.splitlines()[0] == "bonesoup: params.yaml has 2 faults:"
    assert "basis.beta" in done.err
    assert "sede: unknown key" in done.err


def test_outside_a_project_it_says_where_to_go(project, bonesoup):
    (project / "params.yaml").unlink()
    done = bonesoup("run")
    assert done.status == 1
    assert "run from the project's root" in done.err


def test_a_missing_source_file_is_named_by_its_setting_before_anything_runs(project, bonesoup):
    done = bonesoup("run")
    assert done.status == 1
    assert done.out == ""
    assert "data.path: src/bonesoup/data/embedded.yaml: no such file" in done.err


@pytest.mark.parametrize("debug", [[], ["--debug"]])
def test_only_debug_shows_the_traceback(debug, project, bonesoup):
    done = bonesoup(*debug, "profile", "embeded")
    assert done.status == 1
    assert ("Traceback" in done.err) == bool(debug)
    assert done.err.rstrip().splitlines()[-1].startswith("bonesoup: no profile 'embeded'")


def test_soup_never_writes_over_what_exists(project, bonesoup):
    policy = {"slot": "backbone-1", "path": "out/policies/backbones/backbone-1", "row": [1, 0], "digest": "0"}
    soup = {"method": "bone", "base": "out/sft", "objectives": ["helpful", "harmless"], "mapping": "solve"}
    (project / "out/soups").mkdir(parents=True)
    (project / "out/soups/bone.json").write_text(json.dumps(soup | {"policies": [policy], "preferences": [[1, 0]]}))
    (project / "mine").mkdir()
    (project / "mine/kept").write_text("kept")
    done = bonesoup("soup", "--preference", "balanced", "--out", "mine")
    assert done.status == 1
    assert "mine exists already" in done.err
    assert (project / "mine/kept").read_text() == "kept"


@pytest.fixture
def soup(project, tmp_path_factory):
    """Give the project a soup to merge."""
    files = make_version(tmp_path_factory.mktemp("soup"), ["helpful", "harmless"]) / "artifacts"
    recipe = json.loads((files / "soup.json").read_text())
    (project / "out/soups").mkdir(parents=True)
    for policy in recipe["policies"]:
        shutil.copytree(files / policy["path"], project / "out" / policy["path"])
        policy["path"] = f"out/{policy['path']}"
    shutil.copytree(files / "base", project / "out/sft")
    (project / "out/soups/bone.json").write_text(json.dumps(recipe | {"base": "out/sft"}))
    (project / "out/choice.json").write_text(json.dumps({"method": "bone"}))
    return project


def test_an_adapter_is_written_exactly_or_at_a_smaller_rank_with_its_error(soup, bonesoup):
    whole = bonesoup("soup", "--preference", "helpful=1,harmless=0", "--out", "whole")
    assert (whole.status, whole.err) == (0, "")
    assert whole.out.splitlines() == ["whole: backbone-1 +1.7500, backbone-2 -0.7500", "rank 6"]
    assert "It is exact" in (soup / "whole/README.md").read_text()
    assert "| backbone-2 | -0.75 |" in (soup / "whole/README.md").read_text()
    small = bonesoup("soup", "--preference", "helpful=1,harmless=0", "--out", "small", "--rank", "2")
    assert small.out.splitlines()[1] == "rank 2"
    assert re.match(r"relative error: model\.layers\.\S+ \d+\.\d+%, ", small.out.splitlines()[2])
    assert "Compressed: the relative error" in (soup / "small/README.md").read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--full", "--rank", "2"], "--rank and --max-error compress an adapter"),
        (["--rank", "2", "--max-error", "0.1"], "a rank or a largest error, and not both"),
        (["--max-error", "1.5"], "the largest error is 1.5, expected a number in [0, 1)"),
    ],
)
def test_a_compression_that_means_nothing_is_refused(soup, bonesoup, options, message):
    done = bonesoup("soup", "--preference", "balanced", "--out", "x", *options)
    assert done.status == 1
    assert message in done.err
    assert not (soup / "x").exists()


def test_profiles_are_listed_with_what_they_are(project, bonesoup):
    done = bonesoup("profile")
    assert done.status == 0
    lines = done.out.splitlines()
    assert [line.split()[0] for line in lines] == sorted(p.stem for p in (ROOT / "profiles").glob("*.yaml"))
    assert all(len(line.split()) > 3 for line in lines)


def test_a_profile_is_written(project, bonesoup):
    done = bonesoup("profile", "embedded-3")
    assert (done.status, done.err) == (0, "")
    assert "humor" in (project / "params.yaml").read_text()


def test_a_target_is_a_stage_or_a_group_of_stages():
    names = ["prepare", "policy@backbones", "policy@oracles"]
    check_targets(["prepare", "policy", "policy@oracles"], names)
    with pytest.raises(ValueError, match="no stage 'polcy'; there are: prepare, policy@backbones"):
        check_targets(["prepare", "polcy"], names)


def test_the_message_of_a_failed_stage_stands_alone():
    lines = [
        "bonesoup: gate@data failed:",
        "  - 9 of 90 rows are quarantined",
        "",
        "ERROR: failed to reproduce 'gate@data': failed to run: bonesoup stage gate data, exited with 1",
    ]
    assert failure("gate@data", lines).splitlines()[:2] == ["gate@data failed:", "  - 9 of 90 rows are quarantined"]
    assert "exited with" not in failure("gate@data", lines)


def test_a_stage_that_said_nothing_is_still_named():
    killed = "ERROR: failed to reproduce 'sft': failed to run: bonesoup stage sft, exited with -9"
    assert failure("sft", [killed]).startswith("stage sft failed: failed to reproduce 'sft'")
    assert "-9" in failure("sft", [killed])


def test_an_outcome_becomes_the_weights_that_promise_it_and_says_so_on_stderr(project, monkeypatch, capsys):
    monkeypatch.chdir(project)
    Path("out/metrics").mkdir(parents=True)
    grid = [[i / 4, 1 - i / 4] for i in range(5)]
    write_json(Path("out/metrics/fronts.json"), fronts(["helpful", "harmless"], grid))
    settings = params.load()
    assert options.weights_of(settings, "harmless>=0.4,maximize=helpful", "bone") == [0.25, 0.75]
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("helpful=0.25,harmless=0.75: helpful >= -0.476, harmless >= 0.524; scores are the gold")
    assert options.weights_of(settings, "helpful=0.7,harmless=0.3", "bone") == [0.7, 0.3]
