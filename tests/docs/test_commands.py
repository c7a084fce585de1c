"""Every command in README and docs exists with the options, names and files shown; the cheap ones run."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import dvc.cli.parser
import pytest
import typer
from pinned import default
from ruamel.yaml import YAML

from bonesoup.cli.main import app
from bonesoup.evaluation.outcomes import is_outcome, read_outcome
from bonesoup.settings import params, profiles
from bonesoup.workspace import repro
from bonesoup.workspace.declared import stages

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# Programs whose commands are not taken apart.
OTHERS = {"curl", "source", "export", "tail", "du"}


def commands(text: str) -> list[list[str]]:
    """List the words of every command in the ```bash blocks of a page."""
    commands = []
    for block in re.findall(r"^```bash\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            while words:
                end = words.index("&&") if "&&" in words else len(words)
                commands.append(words[:end])
                words = words[end + 1 :]
    return commands


SHOWN = [(page.name, words) for page in PAGES for words in commands(page.read_text())]


def program(words: list[str]) -> list[str]:
    """Drop leading VARIABLE=value words."""
    while words and re.match(r"^[A-Z_]+=", words[0]):
        words = words[1:]
    return words


def test_commands_are_found():
    assert commands("```bash\nA=1 x --b 'c d' \\\n  -e  # why\ny && z\n```\n") == [
        ["A=1", "x", "--b", "c d", "-e"],
        ["y"],
        ["z"],
    ]
    assert {"README.md", "cli.md", "objective.md", "operations.md", "running.md"} <= {page for page, _ in SHOWN}


@pytest.mark.parametrize(("page", "words"), SHOWN, ids=[f"{page}: {' '.join(words)}" for page, words in SHOWN])
def test_a_shown_command_is_valid(page, words):
    name, *arguments = program(words)
    checks = {"bonesoup": check_bonesoup, "make": check_make, "dvc": check_dvc, "mlflow": check_mlflow}
    check = (checks | {"prefect": check_prefect}).get(name)
    if check:
        check(arguments)
    elif name == "python":
        assert (ROOT / arguments[0]).is_file()
    else:
        assert name in OTHERS, f"{page} shows {name}: check it, or name it in OTHERS"


def check_bonesoup(arguments: list[str]) -> None:
    """Parse with the app's own parser, without running; then look up the names in it."""
    group = typer.main.get_command(app)
    context = group.make_context("bonesoup", list(arguments))
    name, command, rest = group.resolve_command(context, [*context._protected_args, *context.args])
    given = command.make_context(name, rest, parent=context).params
    settings = params.check(default())
    if given.get("preference"):
        if is_outcome(given["preference"]):
            read_outcome(given["preference"], settings.objectives)
        else:
            settings.preference(given["preference"])
    if given.get("method"):
        assert given["method"] in settings.methods
    if name == "profile" and given["name"] and given["name"] != "mine":  # `mine` is written on the page
        assert (ROOT / profiles.PROFILES / f"{given['name']}.yaml").is_file()
    if name == "study":
        plan = YAML(typ="safe").load((ROOT / f"studies/{given['name']}.yaml").read_text())
        assert set((given["settings"] or "default").split(",")) <= set(plan["settings"])
    for target in given.get("targets") or []:
        assert target in stage_names()
    if name == "stage":
        assert "@".join(filter(None, (given["name"], given["key"]))) in stage_names()


def stage_names() -> set[str]:
    """List the stages of the default's dvc.yaml."""
    return {name for stage in stages(ROOT).values() for name in stage.names}


def check_make(arguments: list[str]) -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert arguments[0] in targets


def check_dvc(arguments: list[str]) -> None:
    parsed = dvc.cli.parser.get_main_parser().parse_args(arguments)
    values = default()
    for change in getattr(parsed, "set_param", None) or []:
        inner = values
        for key in change.partition("=")[0].split("."):
            inner = inner[key]
    if parsed.cmd in ("repro", "commit"):
        assert set(parsed.targets or []) <= stage_names()


def check_prefect(arguments: list[str]) -> None:
    """Check that the command exists with its options, and that prefect.yaml has the deployment it names."""
    from prefect.cli._app import _app as commands

    command, *_ = commands.parse_args(arguments, print_error=False, exit_on_error=False)
    assert command is not commands.default_command
    deployments = YAML(typ="safe").load((ROOT / "prefect.yaml").read_text())["deployments"]
    names = {flow_name(deployment["entrypoint"]) + "/" + deployment["name"] for deployment in deployments}
    assert {word for word in arguments if re.fullmatch(r"[a-z-]+/[a-z-]+", word)} <= names


def flow_name(entrypoint: str) -> str:
    """Return the name in the @flow of an entrypoint such as flows/train_soup.py:train_soup."""
    file, _, function = entrypoint.partition(":")
    before = (ROOT / file).read_text().partition(f"def {function}(")[0]
    return re.findall(r'^@flow\(name="([^"]+)"', before, re.MULTILINE)[-1]


def check_mlflow(arguments: list[str]) -> None:
    from mlflow.cli import cli

    command, rest = cli, arguments
    context = command.make_context("mlflow", list(rest))
    while hasattr(command, "commands"):
        name, command, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        context = command.make_context(name, rest, parent=context)


@pytest.mark.parametrize(
    "line",
    [
        "bonesoup generate --preference careful",
        "bonesoup generate --preference nobody --prompt x",
        "bonesoup soup --preference balanced --out x --fuller",
        "bonesoup cook",
        "bonesoup profile no-such-profile",
        "bonesoup run no-such-stage",
        "bonesoup stage policy no-such-group",
        "make coffee",
        "dvc reproduce",
        "dvc repro no-such-stage",
        "dvc exp run -S sead=2",
        "dvc exp run --no-such-option",
        "mlflow models serve --no-such-option",
        "prefect deployment run train-soup/no-such-deployment",
        "prefect deployment run train-soup/on-demand --no-such-option",
        "prefect deploymint run train-soup/on-demand",
        "python docs/no-such-file.py",
        "rm -rf out",
    ],
)
def test_a_wrong_command_would_be_noticed(line):
    with pytest.raises(BaseException):  # noqa: B017, PT011  each parser has its own kind
        test_a_shown_command_is_valid("page", shlex.split(line))


def anchors(text: str) -> set[str]:
    """List the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = page.parent / path if path else page
        assert file.exists(), f"{page.name} links to {target}"
        if anchor:
            assert anchor in anchors(file.read_text()), f"{page.name} links to {target}"


def test_the_index_names_every_page():
    index = (ROOT / "docs/index.md").read_text()
    for page in (ROOT / "docs").glob("*.md"):
        assert page.name == "index.md" or f"({page.name})" in index


def test_no_block_opens_the_first_screen_but_the_promised_ones():
    """One figure, two commands, one table."""
    first = re.sub(r"<!-- answers:begin.*?answers:end -->", "", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    first = first.split("\n## ")[0]
    assert first.count("![") == 1
    assert commands(first) == [["make", "demo"], ["make", "chat"]]
    assert first.count("|---|") + first.count("|---\n") <= 1


CHEAP = [
    "bonesoup summary",
    "bonesoup profile",
    "bonesoup models",
    "bonesoup verify",
    "bonesoup generate",
    "bonesoup soup",
    "dvc status",
    "dvc dag",
    "dvc metrics diff",
    "dvc plots show",
    "dvc repro --dry",
]


def cheap() -> list[list[str]]:
    """Choose the commands of CHEAP, with the arguments they are shown with; a first run has no champion to name."""
    shown = [words for _, words in SHOWN if not any(word.startswith("@") for word in words)]
    chosen = [words for words in shown if any(words[: len(c.split())] == c.split() for c in CHEAP)]
    unique = {" ".join(words): words for words in chosen if words[:2] != ["bonesoup", "profile"] or len(words) == 2}
    return list(unique.values())


def soup_file(folder: Path) -> Path:
    """Write the soup file of docs/adapters.md, with this run's specialists in place of people's own adapters."""
    text = re.search(r"```yaml\n(base:.*?)```", (ROOT / "docs/adapters.md").read_text(), re.DOTALL)[1]
    specialists = "out/policies/specialists/specialist-"
    places = {"models/smollm2": "out/sft", "adapters/calm": f"{specialists}1", "adapters/bold": f"{specialists}2"}
    for shown, real in places.items():
        text = text.replace(shown, str(ROOT / real))
    file = folder / "soup.yaml"
    file.write_text(text)
    return file


@pytest.mark.slow
@pytest.mark.parametrize("words", cheap(), ids=" ".join)
def test_a_cheap_command_runs_after_a_finished_pipeline(words, tmp_path):
    made = [ROOT / "out/metrics/report.json", ROOT / "out/soups/bone.json"]
    if not all(path.is_file() for path in made):
        pytest.skip("out/ holds no finished run: `bonesoup run` makes one")
    if params.load(ROOT / "params.yaml").objectives != ["helpful", "harmless"]:
        pytest.skip("the commands shown are for the embedded default, params.yaml holds another profile")
    if "--out" in words:
        where = words.index("--out") + 1
        words = [*words[:where], str(tmp_path / "made"), *words[where + 1 :]]
    if "MODEL" in words:
        # People's own adapters: the specialists of this run stand in for them.
        places = {"calm": "specialist-1", "bold": "specialist-2"}
        words = ["out/sft" if word == "MODEL" else word for word in words]
        for place in (k for k, word in enumerate(words) if word == "--adapter"):
            name = words[place + 1].split("=")[0]
            words[place + 1] = f"{name}=out/policies/specialists/{places[name]}"
    words = [str(soup_file(tmp_path)) if word == "soup.yaml" else word for word in words]
    if words[:3] == ["dvc", "plots", "show"]:
        words = [*words, "--out", str(tmp_path / "plots")]  # the page would land in dvc_plots/
    if words[0] == "dvc":
        words = ["dvc", "--wait-for-lock", *words[1:]]
    executable = shutil.which(words[0], path=Path(sys.executable).parent)
    ran = subprocess.run(
        [executable, *words[1:]], cwd=ROOT, env=repro.environment(), capture_output=True, text=True, timeout=300
    )
    assert ran.returncode == 0, ran.stderr
    if words[:2] == ["bonesoup", "generate"]:
        assert ran.stdout.strip()
    if "--out" in words:
        assert any(Path(words[words.index("--out") + 1]).iterdir())


@pytest.mark.slow
def test_the_python_of_the_readme_runs_after_a_finished_pipeline(tmp_path):
    if not (ROOT / "out/soups/bone.json").is_file() or not (ROOT / "var/mlflow.db").is_file():
        pytest.skip("out/ or var/ hold no finished run: `bonesoup run` makes one")
    if params.load(ROOT / "params.yaml").objectives != ["helpful", "harmless"]:
        pytest.skip("the calls shown are for the embedded default, params.yaml holds another profile")
    folder, registry = re.findall(r"^```python\n(.*?)^```$", PAGES[0].read_text(), re.MULTILINE | re.DOTALL)
    bonesoup = shutil.which("bonesoup", path=Path(sys.executable).parent)
    made = tmp_path / "balanced"
    make = [bonesoup, "soup", "--preference", "balanced", "--full", "--out", str(made)]
    scripts = [
        [*make],
        [sys.executable, "-c", folder.replace("soups/balanced", str(made)) + "\nprint(model.num_parameters())"],
        [sys.executable, "-c", re.sub(r"^(soup\.predict.*)$", r"print(\1)", registry, flags=re.MULTILINE)],
    ]
    ran = [
        subprocess.run(script, cwd=ROOT, env=repro.environment(), capture_output=True, text=True, timeout=300)
        for script in scripts
    ]
    assert [run.returncode for run in ran] == [0, 0, 0], [run.stderr for run in ran]
    assert int(ran[1].stdout) > 100_000
    assert len(ran[2].stdout.splitlines()) == 2
