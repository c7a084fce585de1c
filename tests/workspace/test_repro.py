"""The output of `dvc repro` is followed to its end: what ran, what was skipped, and why it failed."""

import json
import subprocess
import sys
import time

import pytest

from bonesoup.workspace.repro import Busy, follow, record, times

RAN = ["Running stage 'sft':", "> bonesoup stage sft", "loss 1.0", "Stage 'reward@a' didn't change, skipping"]


def followed(lines: list[str], end: str) -> list[tuple[str, str]]:
    """Follow a process that prints `lines` and then runs `end`."""
    script = f"import os, signal\nprint({chr(10).join(lines)!r}, flush=True)\n{end}"
    return list(follow(subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)))


def test_stages_and_what_they_print_are_passed_on_without_advice_to_users_of_dvc():
    assert followed([*RAN, "Use `dvc push` to send your updates"], "") == [
        ("ran", "sft"),
        ("said", "loss 1.0"),
        ("unchanged", "reward@a"),
    ]


@pytest.mark.parametrize(
    ("lines", "end", "kind", "message"),
    [
        (["bonesoup: no rows", "  - in a.jsonl"], "os._exit(1)", RuntimeError, "no rows\n  - in a.jsonl"),
        ([], "os.kill(os.getpid(), signal.SIGKILL)", RuntimeError, "ended by signal 9: was it killed for memory?"),
        ([], "os._exit(1)", RuntimeError, "loss 1.0"),
        (["ERROR: Unable to acquire lock."], "os._exit(1)", Busy, "Unable to acquire lock."),
    ],
)
def test_a_failure_is_told_by_its_stage_and_reason(lines, end, kind, message):
    with pytest.raises(RuntimeError) as failure:
        followed([*RAN, *lines], end)
    assert type(failure.value) is kind
    first, *_, last = str(failure.value).replace(message, "REASON").splitlines()
    assert first == "stage sft failed: REASON"
    assert last == "Finished stages are kept: the same command goes on from here."


def test_the_last_time_of_a_stage_counts_and_a_line_that_was_cut_short_does_not(tmp_path):
    path = tmp_path / "stages.jsonl"
    assert times(path) == {}
    first, second = {"stage": "sft", "seconds": 9}, {"stage": "sft", "seconds": 5}
    path.write_text(f'{json.dumps(first)}\n{{"stage": "rep\n{json.dumps(second)}\n{{"stage"')
    assert times(path) == {"sft": second}


def test_a_stage_whose_time_cannot_be_noted_has_not_failed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "var").write_text("a file where a folder should be")
    assert record("sft", time.monotonic()).startswith("sft: 0.0 s")
