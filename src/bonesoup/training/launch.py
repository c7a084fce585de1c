"""Train one policy in several processes: `accelerate launch` runs this module in each, and the main one writes.

The launching process decides and copies; each launched one only calls `train_policy`.
"""

import json
import subprocess
import sys
from pathlib import Path

from bonesoup.files import read_json, write_json
from bonesoup.training.task import Collapse

# Ends with this process, like everything that trains.
BOUND = (
    "from bonesoup.locks import die_with_parent; die_with_parent(); from accelerate.commands.launch import main; main()"
)
ANSWER, LOG = "launched.json", "launch.log"


def launch(file: str, name: str, row: list[float], scratch: Path, until: int | None, steps: int) -> Path:
    """Run `train_policy` in the processes that accelerate's settings in `file` describe; return the adapter's folder.

    Raises:
        ValueError: there is no such file.
        Collapse: the policy collapsed.
        RuntimeError: a process failed; quotes its output.
    """
    if not Path(file).is_file():
        raise ValueError(f"hardware.accelerate: {file}: no such file; the project's files are in accelerate/")
    (scratch / ANSWER).unlink(missing_ok=True)
    job = json.dumps({"name": name, "row": row, "scratch": str(scratch), "until": until, "steps": steps})
    command = [sys.executable, "-c", BOUND, "--config_file", file, "--module", "bonesoup.training.launch", job]
    with open(scratch / LOG, "w") as log:
        status = subprocess.run(command, stderr=log, check=False).returncode
    answer = read_json(scratch / ANSWER) if (scratch / ANSWER).is_file() else {}
    if answer.get("collapsed"):
        raise Collapse(answer["error"])
    if status or "adapter" not in answer:
        tail = "\n".join((scratch / LOG).read_text(errors="replace").splitlines()[-20:])
        reason = answer.get("error", f"the last lines of {scratch / LOG}:\n{tail}")
        raise RuntimeError(f"{name}: a process that accelerate launched failed: {reason}")
    return Path(answer["adapter"])


def main(job: dict) -> None:
    """Train in one process. The main process writes the adapter's folder to launched.json; the first process that
    fails writes its error there.
    """
    import torch
    from accelerate import PartialState

    from bonesoup.locks import die_with_parent
    from bonesoup.settings import params
    from bonesoup.training.rloo import train_policy
    from bonesoup.training.task import task

    die_with_parent()
    settings = params.load()
    settings = settings.model_copy(update={"rl": settings.rl.lasting(job["steps"])})
    torch.set_num_threads(settings.threads)
    # Before any model is loaded: this assigns each process its GPU.
    state = PartialState(cpu=settings.device == "cpu")
    scratch = Path(job["scratch"])
    try:
        adapter = train_policy(task(settings), job["name"], job["row"], scratch, job["until"])
    except Exception as error:
        if not (scratch / ANSWER).exists():
            reason = {"error": str(error) or type(error).__name__, "collapsed": isinstance(error, Collapse)}
            write_json(scratch / ANSWER, reason)
        raise
    if state.is_main_process:
        write_json(scratch / ANSWER, {"adapter": str(adapter)})


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
