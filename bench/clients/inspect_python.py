import os
import tempfile

from common import HELPFUL, QUESTION, SYSTEM, URL, expected, steered, tried

# shown
from inspect_ai import Task, eval
from inspect_ai.dataset import Sample
from inspect_ai.model import GenerateConfig, get_model
from inspect_ai.scorer import includes


def model(preference):
    name = f"openai-api/bonesoup/bonesoup-soup@{preference}"
    return get_model(name, base_url=URL, api_key="none", config=GenerateConfig(temperature=0))


# end
def run(model, **options):
    task = Task(dataset=[Sample(input=QUESTION, target="a")], scorer=includes(), **options)
    with tempfile.TemporaryDirectory() as folder:
        (log,) = eval(task, model=model, log_dir=folder, display="none")
        assert log.status == "success", log.error
        return log.samples[0].output.completion


def body(preference):
    asked = GenerateConfig(temperature=0, extra_body={"preference": preference})
    return get_model("openai-api/bonesoup/bonesoup-soup", base_url=URL, api_key="none", config=asked)


def system():
    from inspect_ai.solver import generate, system_message

    return run(model(HELPFUL), solver=[system_message(SYSTEM), generate()]) == expected(HELPFUL, SYSTEM)


os.environ["BONESOUP_API_KEY"] = "none"
steered("model name", lambda preference: run(model(preference)))
steered("body", lambda preference: run(body(preference)))
tried("system message", system)
