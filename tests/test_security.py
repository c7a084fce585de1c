"""The promises of docs/security.md, as far as they can be checked without starting anything."""

import re
import subprocess

import pytest
from mlflow.exceptions import MlflowException
from projects import ROOT
from pydantic import TypeAdapter, ValidationError

from bonesoup.registry.store import nothing_lost, shown
from bonesoup.settings.schema import Name, Settings

# Keys of clouds and hosts of code, private keys, and a user with a password in an address.
SECRET = (
    r"AKIA[0-9A-Z]{16}|-----BEGIN [A-Z ]*PRIVATE KEY|xox[baprs]-[0-9A-Za-z-]{10}|gh[pousr]_[0-9A-Za-z]{36}"
    r"|hf_[0-9A-Za-z]{30}|://[A-Za-z0-9_-]+:[^ /@$<{}]+@[A-Za-z0-9]"
)

# The one exception to "no weights in git": a soup to try before training anything.
DEMO = "src/bonesoup/demo/"


def git_grep(pattern: str, *paths: str) -> list[str]:
    """List file:line of every tracked line that matches."""
    command = ["git", "grep", "--line-number", "--extended-regexp", "-e", pattern, "--", *paths]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.splitlines()


def test_git_holds_no_secret():
    # Tests plant some.
    assert git_grep(SECRET, ".", ":(exclude)tests") == []
    assert git_grep(SECRET, "tests"), "the pattern finds nothing"
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    kept = [path for path in tracked.splitlines() if not path.startswith(DEMO)]
    assert not [
        path for path in kept if re.search(r"(^|/)\.env$|\.(pem|key|db|sqlite3?|pkl|pt|bin|safetensors)$", path)
    ]


def test_the_only_weights_in_git_are_the_demos_adapters():
    weights = sorted((ROOT / DEMO).rglob("*.safetensors"))
    assert len(weights) == 4
    assert sum(path.stat().st_size for path in weights) < 12e6


def test_a_server_listens_on_loopback_unless_told_otherwise():
    """Only containers listen on every address; compose.yaml publishes their ports on loopback."""
    for script, variable in (("mlflow/server.sh", "MLFLOW_HOST"), ("flows/server.sh", "PREFECT_SERVER_API_HOST")):
        assert f"${{{variable}:-127.0.0.1}}" in (ROOT / script).read_text()
    everywhere = {line.split(":")[0] for line in git_grep(r"0\.0\.0\.0|\[::\]", ".", ":(exclude)tests")}
    assert everywhere <= {"compose.yaml", "docs/deploy.md", "docs/security.md"}


def test_no_model_brings_its_own_code():
    assert not [line for line in git_grep("trust_remote_code", "src", "flows") if "trust_remote_code=False" not in line]


def test_every_pickle_is_read_weights_only():
    loads = git_grep(r"torch\.load\(|pickle\.loads?\(|joblib\.load\(", "src", "flows", "bench", "compose")
    assert [line for line in loads if "weights_only=True" not in line] == []


@pytest.mark.parametrize("name", ["../up", "a/b", "/etc", "a\\b", ".", "..", "A", "a b", "a\n", "", "ä", "-x", "a.b"])
def test_a_name_cannot_leave_its_folder(name):
    with pytest.raises(ValidationError):
        TypeAdapter(Name).validate_python(name)


def test_every_name_of_the_settings_that_becomes_a_path_is_checked():
    """Objectives, groups of policies, named preferences and the model's name; slots have a fixed list."""
    fields = Settings.model_fields
    for field in ("objectives", "rewards", "policies", "preferences", "register_"):
        assert "^[a-z][a-z0-9_-]*$" in str(TypeAdapter(fields[field].annotation).json_schema()), field


@pytest.mark.parametrize(
    "uri", ["http://me:secret-word@host:5000", "postgresql://me:secret-word@host/db", "https://secret-word@host"]
)
def test_a_failing_store_is_named_without_its_password(uri):
    assert "secret-word" not in shown(uri)
    with pytest.raises(ConnectionError) as error, nothing_lost(uri):
        raise MlflowException(f"API request to {uri}/api/2.0 failed")
    assert "secret-word" not in str(error.value)
    assert "host" in str(error.value)
