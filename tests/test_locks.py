"""One worker at a time, and none that outlives its parent, whatever kills whom."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from bonesoup.locks import exclusive

HOLD = """
import sys, time
from pathlib import Path
from bonesoup.locks import exclusive
with exclusive(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""
COUNT = """
import sys, time
from pathlib import Path
from bonesoup.locks import exclusive
lock, number = Path(sys.argv[1]), Path(sys.argv[2])
for _ in range(20):
    with exclusive(lock):
        value = int(number.read_text())
        time.sleep(0.002)
        number.write_text(str(value + 1))
"""
CHILD = """
import time
from bonesoup.locks import die_with_parent
die_with_parent()
print('up', flush=True)
time.sleep(30)
"""


def python(code: str, *arguments: object, **options) -> subprocess.Popen:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **options)


@pytest.fixture
def holder(tmp_path):
    process = python(HOLD, tmp_path / "x.lock")
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_a_held_lock_is_refused_with_the_holder_named(tmp_path, holder, capsys):
    with (
        pytest.raises(TimeoutError, match=f"held by process {holder.pid}: wait for it"),
        exclusive(tmp_path / "x.lock", wait=0.3),
    ):
        pytest.fail("two hold it")
    assert capsys.readouterr().out == f"waiting for process {holder.pid}, which holds {tmp_path / 'x.lock'}\n"


def test_another_lock_is_free(tmp_path, holder):
    with exclusive(tmp_path / "y.lock", wait=0):
        pass


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, None])
def test_the_lock_ends_with_its_holder(tmp_path, holder, how):
    if how is None:
        holder.stdin.close()
    else:
        holder.send_signal(how)
    holder.wait()
    with exclusive(tmp_path / "x.lock", wait=0):
        assert (tmp_path / "x.lock").read_text() == str(os.getpid())


def test_two_processes_never_interleave(tmp_path):
    number = tmp_path / "number"
    number.write_text("0")
    workers = [python(COUNT, tmp_path / "x.lock", number) for _ in range(3)]
    for worker in workers:
        worker.communicate(timeout=60)
    assert number.read_text() == "60"


def test_an_error_inside_releases(tmp_path):
    with pytest.raises(ZeroDivisionError), exclusive(tmp_path / "x.lock"):
        raise ZeroDivisionError
    with exclusive(tmp_path / "x.lock", wait=0):
        pass


@pytest.mark.parametrize("shell", [False, True], ids=["direct", "behind a shell that stays"])
def test_a_worker_dies_with_the_process_that_started_it(shell):
    # A second command keeps the shell from replacing itself with the first, as it does for DVC's single one.
    words = ["/bin/sh", "-c", f'{sys.executable} -c "{CHILD}"; true'] if shell else [sys.executable, "-c", CHILD]
    parent = python(f"import subprocess; subprocess.run({words!r})", "dvc")
    assert parent.stdout.readline() == "up\n"
    family = psutil.Process(parent.pid).children(recursive=True)
    assert len(family) == 1 + shell
    worker = family[-1]
    parent.kill()
    deadline = time.monotonic() + 5
    while alive(worker) and time.monotonic() < deadline:
        time.sleep(0.02)
    survived = alive(worker)
    for process in family:
        if alive(process):
            process.kill()
    assert not survived


def alive(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
