"""The registered model as MLflow runs it: prompts and a preference in, responses out.

A "model from code": MLflow copies this file into every version and runs it by path, beside a copy of the package.
One base model with every adapter stays in memory; a preference only sets the adapters' scales. A version that is
one policy (a backbone, merged weights) answers its own preference and refuses any other.

    predict(["How do I bake bread?"], params={"preference": {"helpful": 0.7, "harmless": 0.3}, "seed": 1})
    predict(["How do I bake bread?"], params={"named": "careful"})
"""

import math
from pathlib import Path
from threading import Lock

import mlflow
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc import PythonModel

from bonesoup.config import parse_weights, preference_faults


class BadRequest(MlflowException, ValueError):
    """A ValueError that the scoring server answers with status 400 and its message, not 500 and a traceback."""

    def __init__(self, message: str):
        super().__init__(message, error_code=INVALID_PARAMETER_VALUE)


class Steerable(PythonModel):
    """A soup behind MLflow's predict().

    model_config: `preferences` (named ones), `default` (weights answered when none are given), `fixed` (whether
    `default` is the only one), `temperature`, `max_new_tokens`, `batch` (rows at a time), `device` ("auto", "cpu",
    "cuda"); load_model(uri, model_config={"device": "cpu"}) overrides.
    """

    def load_context(self, context):
        import torch

        from bonesoup.generation.soup import Soup, SoupModel

        self.settings = context.model_config
        file = Path(context.artifacts["soup"])
        soup = Soup.read(file, root=file.parent)
        device = self.settings["device"]
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self.soup = SoupModel.load(soup, device)
        self.objectives = list(soup.objectives)
        # The scales are state of the model: one request sets them and generates before the next one may.
        self.lock = Lock()

    # No type hints: MLflow would derive a signature from them and drop the one with parameters.
    def predict(self, context, model_input, params=None):
        """One response per prompt.

        Args:
            model_input: a column `prompt` of strings, or one nameless column (what MLflow makes of a list).
            params: `preference` {objective: weight}; `named`: instead of it, a named preference or
                "helpful=0.7,harmless=0.3"; `max_new_tokens`; `temperature`; `seed`: prompt i is sampled with
                seed + i, so the same call gives the same answer.

        Raises:
            BadRequest: a ValueError; unknown names, weights off the simplex, another preference than the fixed
                one, an empty prompt, a prompt too long for the model.
        """
        from bonesoup.generation.sample import sample

        params = self.settings | (params or {})
        prompts = texts(model_input)
        weights = chosen(params, self.objectives, self.settings)
        temperature, length, seed = params["temperature"], params["max_new_tokens"], params.get("seed", 0)
        if not (math.isfinite(temperature) and temperature > 0):
            raise BadRequest(f"temperature must be positive and finite, found {temperature}")
        if length < 1:
            raise BadRequest(f"max_new_tokens must be at least 1, found {length}")
        messages = [[{"role": "user", "content": prompt}] for prompt in prompts]
        self._check_length(messages, length)
        seeds = [int(seed) + row for row in range(len(prompts))]
        with self.lock:
            self.soup.at(weights)
            responses = sample(
                self.soup.model,
                self.soup.tokenizer,
                messages,
                seeds,
                float(temperature),
                int(length),
                self.settings["batch"],
            )
        return [response.text for response in responses]

    def _check_length(self, messages, new):
        """Past its context a model answers nonsense or fails in an embedding lookup."""
        context = getattr(self.soup.model.config, "max_position_embeddings", None)
        for row, prompt in enumerate(messages):
            ids = self.soup.tokenizer.apply_chat_template(
                prompt, add_generation_prompt=True, return_dict=True
            )["input_ids"]
            if context and len(ids) + new > context:
                raise BadRequest(
                    f"prompt {row} has {len(ids)} tokens, {new} new ones do not fit into the model's context of "
                    f"{context}: shorten it or lower max_new_tokens"
                )


def texts(model_input):
    """The prompts as strings: from a DataFrame (MLflow's form of any input) or a plain list."""
    if hasattr(model_input, "columns"):
        name = "prompt" if "prompt" in model_input.columns else model_input.columns[0]
        if name not in ("prompt", 0):
            raise BadRequest(
                f"the input has columns {list(model_input.columns)}, expected one column `prompt` or a list of strings"
            )
        model_input = model_input[name].tolist()
    for row, prompt in enumerate(model_input):
        if not isinstance(prompt, str) or not prompt.strip():
            raise BadRequest(f"prompt {row} must be a string with text in it, found {prompt!r}")
    return list(model_input)


def chosen(params, objectives, settings):
    """The preference that `params` ask for, as weights in the order of `objectives`."""
    default, named = settings["default"], settings["preferences"]
    weights = params.get("preference") or default
    if text := params.get("named"):
        if weights != default:
            raise BadRequest(f"give `preference` or `named`, not both: found {weights} and {text!r}")
        weights = text
    if isinstance(weights, str):
        try:
            weights = named[weights] if weights in named else parse_weights(weights, sorted(named))
        except ValueError as error:
            raise BadRequest(str(error)) from None
    try:
        weights = {name: float(value) for name, value in weights.items()}
    except (AttributeError, TypeError, ValueError):
        raise BadRequest(f"preference must map objectives to weights, found {weights!r}") from None
    if faults := preference_faults(weights, objectives):
        raise BadRequest(f"preference {weights}: " + "; ".join(faults))
    if settings["fixed"] and any(abs(weights[name] - default[name]) > 1e-6 for name in objectives):
        raise BadRequest(
            f"this version answers one preference, {default}; found {weights}: ask the steerable soup"
        )
    return [weights[name] for name in objectives]


mlflow.models.set_model(Steerable())
