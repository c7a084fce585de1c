"""`bonesoup merge`: its output and exit status; a merge never imports torch."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from checkpoints import llama, tensors_of

BONESOUP = str(Path(sys.executable).with_name("bonesoup"))


@pytest.fixture
def run(tmp_path):
    llama(tmp_path / "a", 1)
    llama(tmp_path / "b", 2)

    def run(*words):
        command = [BONESOUP, "merge", *words]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    return run


def test_a_merge_prints_one_line_and_no_bar_into_a_pipe(run, tmp_path):
    done = run("--model", "a=1.75", "--model", "b=-0.75", "--dtype", "bfloat16", "--shard-size", "5KB", "--out", "out")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "out: +1.75 * a -0.75 * b\n"
    assert len(list((tmp_path / "out").glob("*.safetensors"))) > 1
    assert json.loads((tmp_path / "out/config.json").read_text())["dtype"] == "bfloat16"


def test_a_base_and_a_name_with_an_equals_sign(run, tmp_path):
    (tmp_path / "b").rename(tmp_path / "lr=1e-4")
    done = run("--model", "lr=1e-4=0.5", "--base", "a", "--out", "out")
    assert done.returncode == 0, done.stderr
    assert set(tensors_of(tmp_path / "out")) == set(tensors_of(tmp_path / "a"))


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["--model", "a"], 2, "expected DIR=COEFFICIENT"),
        (["--model", "a=half"], 2, "expected DIR=COEFFICIENT"),
        (["--model", "=1"], 2, "expected DIR=COEFFICIENT"),
        (["--model", "a=1", "--shard-size", "5"], 2, "--shard-size"),
        (["--model", "a=1", "--shard-size", "0GB"], 2, "--shard-size"),
        (["--model", "a=1", "--shard-size", "0.0001KB"], 2, "--shard-size"),
        (["--model", "a=1", "--dtype", "int8"], 2, "--dtype"),
        (["--model", "a=0.9"], 1, "bonesoup: the coefficients sum to 0.9"),
        (["--model", "a=inf"], 1, "bonesoup: the coefficient of a is inf"),
        (["--model", "c=1"], 1, "bonesoup: c/config.json does not exist"),
    ],
)
def test_mistakes_have_a_status_and_one_message(run, tmp_path, words, status, message):
    done = run(*words, "--out", "out")
    assert done.returncode == status
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"a", "b"}


def test_a_merge_imports_nothing_heavy(run, tmp_path):
    code = (
        "import sys; from bonesoup.weights import merge; merge([('a', 0.5), ('b', 0.5)], 'out')\n"
        "print([name for name in ('torch', 'transformers', 'safetensors', 'pandas') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout == "[]\n", done.stderr
