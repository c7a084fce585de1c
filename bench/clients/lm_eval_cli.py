import json
import math
import subprocess
import sys
import tempfile
from pathlib import Path

from common import HARMLESS, HELPFUL, QUESTION, URL, post, tried

CHOICES = ["sorry", "sure"]
# shown: task.yaml
TASK = """
task: manners
dataset_path: json
dataset_kwargs:
  data_files: {{test: {folder}/manners.jsonl}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: "{{{{answer}}}}"
metric_list:
  - metric: acc
"""


def evaluate(preference, folder):
    model = f"model=bonesoup-soup@{preference},base_url={URL}/completions,num_concurrent=4,tokenizer_backend=remote"
    command = ["lm_eval", "--model", "local-completions", "--model_args", model, "--include_path", str(folder)]
    return [*command, "--tasks", "manners", "--output_path", str(folder), "--log_samples"]


# end
def log_probabilities(preference):
    """Return what the harness got for each choice."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "manners.jsonl").write_text(
            json.dumps({"question": QUESTION, "choices": CHOICES, "answer": 0}) + "\n"
        )
        (folder / "task.yaml").write_text(TASK.format(folder=folder))
        program, *rest = evaluate(preference, folder)
        done = subprocess.run([Path(sys.executable).with_name(program), *rest], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr.strip().splitlines()[-1]
        (samples,) = folder.rglob("samples_*.jsonl")
        (row,) = map(json.loads, samples.read_text().splitlines())
    return [float(response[0][0]) for response in row["resps"]]


def direct(preference):
    body = {"model": f"bonesoup-soup@{preference}", "prompt": QUESTION, "answers": [f" {text}" for text in CHOICES]}
    return [each["logprob"] for each in post("/v1/score", body)["data"]]


def multiple_choice():
    results = {preference: log_probabilities(preference) for preference in (HELPFUL, HARMLESS)}
    assert results[HELPFUL] != results[HARMLESS], "both preferences score alike"
    for preference, values in results.items():
        for value, expected in zip(values, direct(preference), strict=True):
            assert math.isclose(value, expected, abs_tol=1e-3), f"{values}, the server's {direct(preference)}"
    return True


tried("multiple choice, model name", multiple_choice)
