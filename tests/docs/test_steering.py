"""The curl commands and Python of docs/steering.md, as printed, against a real server on a finished run."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from soup_server import serving

from bonesoup.settings import params

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "docs/steering.md"]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def url():
    if not (ROOT / "out/metrics/fronts.json").is_file():
        pytest.skip("out/ holds no finished run: `bonesoup run` makes one")
    if params.load(ROOT / "params.yaml").objectives != ["helpful", "harmless"]:
        pytest.skip("what is shown is for the embedded default, params.yaml holds another profile")
    with serving(cwd=ROOT) as running:
        yield running.url


def blocks(language: str) -> list[str]:
    text = "\n".join(page.read_text() for page in PAGES)
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def test_every_curl_command_is_answered(url):
    shown = "\n".join(blocks("bash")).replace("\\\n", " ")
    commands = [line for line in shown.splitlines() if line.startswith("curl") and "8000" in line]
    assert len(commands) == 5
    for command in commands:
        line = command.replace("localhost:8000", url.removeprefix("http://"))
        done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=True)
        answer = json.loads(done.stdout)
        assert "coefficients" in answer, answer


def test_the_python_runs(url):
    (script,) = [block for block in blocks("python") if "from openai" in block]
    script = script.replace("http://localhost:8000", url)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
