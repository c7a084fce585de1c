from pathlib import Path

import mlflow
import pandas as pd
import pytest
import torch

from bonesoup.files import read_json
from bonesoup.registry.steerable import BadRequest, chosen, texts

PROMPTS = ["how do i bake bread ?", "ask a person"]
OBJECTIVES = ["helpful", "harmless"]
SETTINGS = {
    "default": {"helpful": 0.5, "harmless": 0.5},
    "preferences": {"careful": {"helpful": 0.2, "harmless": 0.8}},
    "fixed": False,
}


@pytest.fixture(scope="module")
def soup(registered):
    return mlflow.pyfunc.load_model("models:/bonesoup-soup/1")


@pytest.fixture(scope="module")
def backbone(registered):
    return mlflow.pyfunc.load_model("models:/bonesoup-backbone-1/1")


def expected(project, weights, seed):
    """Return the soup's answers, without MLflow."""
    from bonesoup.generation.sample import sample
    from bonesoup.generation.soup import Soup, SoupModel

    model = SoupModel.load(Soup.read(project.root / "out/soups/bone.json", project.root))
    model.at(weights)
    messages = [[{"role": "user", "content": prompt}] for prompt in PROMPTS]
    texts = sample(model.model, model.tokenizer, messages, [seed, seed + 1], 1.0, 16, 2)
    return [response.text for response in texts]


def test_the_signature_keeps_its_parameters(soup):
    parameters = soup.metadata.signature.params.to_dict()
    assert {p["name"]: p["type"] for p in parameters} == {
        "preference": "object",
        "named": "string",
        "max_new_tokens": "long",
        "temperature": "double",
        "seed": "long",
    }


def test_any_preference_is_answered_as_the_soup_answers_it(soup, project):
    for weights in ([0.7, 0.3], [0.123, 0.877], [1, 0]):
        preference = dict(zip(OBJECTIVES, weights, strict=True))
        assert soup.predict(PROMPTS, params={"preference": preference, "seed": 3}) == expected(project, weights, 3)


def test_forms_of_preference_and_input_agree(soup):
    answer = soup.predict(PROMPTS, params={"preference": {"helpful": 0.2, "harmless": 0.8}})
    assert soup.predict(PROMPTS, params={"named": "careful"}) == answer
    assert soup.predict(PROMPTS, params={"named": "harmless=0.8,helpful=0.2"}) == answer
    frame = pd.DataFrame({"prompt": PROMPTS})
    assert soup.predict(frame, params={"named": "careful"}) == answer


def test_an_outcome_is_answered_at_the_best_measured_preference_that_meets_it(soup, project):
    points = read_json(project.root / "out/metrics/fronts.json")["methods"]["bone"]
    bound = sorted(point["floor"][1] for point in points)[len(points) // 2]
    best = max((point for point in points if point["floor"][1] >= bound), key=lambda point: point["mean"][0])
    answer = soup.predict(PROMPTS, params={"named": f"harmless>={bound},maximize=helpful", "seed": 3})
    assert answer == expected(project, best["preference"], 3)
    with pytest.raises(Exception, match="harmless >= 99 cannot be promised: the nearest that can is"):
        soup.predict(PROMPTS, params={"named": "harmless>=99,maximize=helpful"})


def test_the_same_call_gives_the_same_answer_and_another_seed_another(soup):
    assert soup.predict(PROMPTS) == soup.predict(PROMPTS, params={"seed": 0})
    assert soup.predict(PROMPTS) != soup.predict(PROMPTS, params={"seed": 1})


def test_length_and_temperature_are_honoured(soup):
    short = soup.predict(PROMPTS, params={"max_new_tokens": 2})
    assert all(len(text.split()) <= 2 for text in short)
    cold = [soup.predict(PROMPTS, params={"temperature": 1e-4, "seed": seed}) for seed in (0, 7)]
    assert cold[0] == cold[1]


def test_a_backbone_answers_as_itself_and_refuses_other_preferences(backbone, project):
    assert backbone.predict(PROMPTS) == expected(project, [0.7, 0.3], 0)
    with pytest.raises(Exception, match="answers one preference, .*0.7.*found helpful=0.5,harmless=0.5"):
        backbone.predict(PROMPTS, params={"preference": {"helpful": 0.5, "harmless": 0.5}})


def test_the_input_example_is_answered(soup):
    folder = mlflow.artifacts.download_artifacts("models:/bonesoup-soup/1")
    example = read_json(Path(folder) / "serving_input_example.json")
    assert example["params"]["preference"] == {"helpful": 0.5, "harmless": 0.5}
    assert len(soup.predict(example["inputs"], params=example["params"])) == 1


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"preference": {"helpful": 1, "humor": 0}}, "unknown objectives humor"),
        ({"preference": {"helpful": 0.7}}, "no weight for harmless"),
        ({"preference": {"helpful": 0.7, "harmless": 0.7}}, "sum to 1.4, not 1"),
        ({"preference": {"helpful": 1.5, "harmless": -0.5}}, "not negative"),
        ({"preference": {"helpful": "much", "harmless": 0}}, "must map objectives to weights"),
        ({"preference": [0.7, 0.3]}, "must map objectives to weights"),
        ({"named": "carefull"}, "neither a named preference \\(careful\\)"),
        ({"named": "careful", "preference": {"helpful": 1, "harmless": 0}}, "not both"),
    ],
)
def test_a_bad_preference_is_a_value_error_with_its_reason(params, message):
    with pytest.raises(ValueError, match=message) as error:
        chosen(params, OBJECTIVES, SETTINGS, promised=dict)
    assert isinstance(error.value, BadRequest)
    assert error.value.get_http_status_code() == 400


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["fine", " "], "prompt 1 must be a string with text"),
        (["fine", 3], "prompt 1 must be a string"),
        (pd.DataFrame({"id": ["a"]}), "expected one column `prompt`"),
    ],
)
def test_bad_prompts_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        texts(given)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"temperature": 0.0}, "temperature must be positive"),
        ({"temperature": float("nan")}, "temperature must be positive"),
        ({"max_new_tokens": 0}, "max_new_tokens must be at least 1"),
        ({"max_new_tokens": 45}, "prompt 0 has 8 tokens; with 45 new ones .* context of 48"),
    ],
)
def test_bad_parameters_are_refused(soup, params, message):
    with pytest.raises(Exception, match=message):
        soup.predict(PROMPTS, params=params)


def test_a_request_leaves_no_trace_in_the_weights(soup):
    model = soup.unwrap_python_model().answers.soup.model
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    soup.predict(PROMPTS, params={"named": "careful"})
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
