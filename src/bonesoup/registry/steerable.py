"""The registered model as MLflow runs it: prompts and a preference in, responses out.

A "model from code": MLflow copies this file into every version and runs it by path, next to a copy of the package. The
base, which the version names by its digest, comes from the same registry. It stays in memory with every adapter; a
preference only sets how they are mixed. A version that is a single policy (a backbone, merged weights) answers its
preference and refuses any other.

    predict(["How do I bake bread?"], params={"preference": {"helpful": 0.7, "harmless": 0.3}, "seed": 1})
    predict(["How do I bake bread?"], params={"named": "careful"})
    predict(["How do I bake bread?"], params={"named": "harmless>=0.2,maximize=helpful"})
"""

import logging
import math
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock

import mlflow
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc import PythonModel

from bonesoup.evaluation.outcomes import is_outcome, read_outcome, solve
from bonesoup.files import read_json
from bonesoup.generation.sample import sample
from bonesoup.generation.soup import Soup, SoupModel
from bonesoup.method.preferences import format_weights, parse_weights, preference_faults
from bonesoup.paths import MEASURED
from bonesoup.registry import bases

log = logging.getLogger("bonesoup")


class BadRequest(MlflowException, ValueError):
    """A ValueError that the scoring server answers with status 400 and its message, without a traceback."""

    def __init__(self, message: str):
        super().__init__(message, error_code=INVALID_PARAMETER_VALUE)


class Answers:
    """A soup that answers requests one at a time, since the mixture is state of the model."""

    def __init__(self, file: Path, settings: dict):
        """Load the soup next to `file`, in the folder artifacts of a version.

        Args:
            settings: `preferences` (named ones), `default` (weights answered when none are given), `fixed`
                (`default` is the only one), `temperature`, `max_new_tokens`, `batch` (rows at once),
                `device` ("auto", "cpu", "cuda").
        """
        soup = Soup.read(file, root=file.parent)
        measured = file.parents[1] / "lineage" / MEASURED.name
        self.front = read_json(measured) if measured.is_file() else None
        self.objectives = list(soup.objectives)
        with TemporaryDirectory(prefix="bonesoup-") as work:
            base = fetched(file.parents[1], Path(work))
            self.soup = SoupModel.load(replace(soup, base=base) if base else soup, settings["device"])
        self.settings = settings
        self.lock = Lock()

    def __call__(self, model_input, params: dict) -> list[str]:
        """Return a response for each prompt.

        Args:
            model_input: a DataFrame with a column `prompt`, or one nameless column (MLflow's form of a list).
            params: `preference` {objective: weight}; `named`, instead of it: a named preference,
                "helpful=0.7,harmless=0.3", or an outcome such as "harmless>=0.2,maximize=helpful"; `max_new_tokens`;
                `temperature`; `seed`: prompt i is sampled with seed + i, so the same call gives the same answer.

        Raises:
            BadRequest: a ValueError. Unknown names, weights off the simplex, an outcome that cannot be promised, a
                preference other than the fixed one, an empty prompt, a prompt too long for the model.
        """
        params = self.settings | params
        prompts = texts(model_input)
        weights = chosen(params, self.objectives, self.settings, self.promised)
        temperature, new = float(params["temperature"]), int(params["max_new_tokens"])
        if not (math.isfinite(temperature) and temperature > 0):
            raise BadRequest(f"temperature must be positive and finite, found {temperature}")
        if new < 1:
            raise BadRequest(f"max_new_tokens must be at least 1, found {new}")
        messages = [[{"role": "user", "content": prompt}] for prompt in prompts]
        self._check_length(messages, new)
        seeds = [int(params.get("seed", 0)) + row for row in range(len(prompts))]
        model, tokenizer = self.soup.model, self.soup.tokenizer
        with self.lock:
            self.soup.at(weights)
            responses = sample(model, tokenizer, messages, seeds, temperature, new, self.settings["batch"])
        return [response.text for response in responses]

    def promised(self, outcome: str) -> dict[str, float]:
        """Return the measured preference that answers an outcome, and log the scores measured there.

        Raises:
            ValueError: it cannot be promised; see `evaluation.outcomes`.
        """
        promise = solve(read_outcome(outcome, self.objectives), self.front, self.soup.soup.method)
        log.info("%s: %s", promise.asked, promise.text)
        return promise.preference

    def _check_length(self, messages: list, new: int) -> None:
        """Refuse prompts beyond the context, where a model answers nonsense or fails in an embedding lookup."""
        context = getattr(self.soup.model.config, "max_position_embeddings", None) or math.inf
        for row, prompt in enumerate(messages):
            encoded = self.soup.tokenizer.apply_chat_template(prompt, add_generation_prompt=True, return_dict=True)
            length = len(encoded["input_ids"])
            if length + new > context:
                raise BadRequest(
                    f"prompt {row} has {length} tokens; with {new} new ones it does not fit into the model's "
                    f"context of {context}: shorten it or lower max_new_tokens"
                )


def fetched(folder: Path, work: Path) -> Path | None:
    """Fetch the base that a version's files name into `work`; None if they have all weights themselves.

    Raises:
        ValueError: the registry has no intact copy of it.
    """
    try:
        return bases.of(folder, work)
    except bases.Missing as error:
        name = read_json(folder / "lineage/lineage.json")["name"]
        raise ValueError(f"this version of {name}: {error}") from None


def texts(model_input) -> list[str]:
    """Return the prompts as strings, from a DataFrame (MLflow's form of any input) or a plain list."""
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


def chosen(params: dict, objectives: list[str], settings: dict, promised: Callable[[str], dict]) -> list[float]:
    """Return the preference that `params` ask for, as weights in the order of `objectives`.

    Args:
        promised: returns the preference that answers an outcome.

    Raises:
        BadRequest: none, or one that the version does not answer.
    """
    default, known = settings["default"], settings["preferences"]
    weights = params.get("preference") or default
    if named := params.get("named"):
        if weights != default:
            raise BadRequest(f"give `preference` or `named`, not both: found {weights} and {named!r}")
        weights = named
    if isinstance(weights, str):
        try:
            if weights in known:
                weights = known[weights]
            else:
                weights = promised(weights) if is_outcome(weights) else parse_weights(weights, sorted(known))
        except ValueError as error:
            raise BadRequest(str(error)) from None
    try:
        weights = {name: float(value) for name, value in weights.items()}
    except (AttributeError, TypeError, ValueError):
        raise BadRequest(f"preference must map objectives to weights, found {weights!r}") from None
    if faults := preference_faults(weights, objectives):
        raise BadRequest(f"preference {format_weights(weights)}: " + "; ".join(faults))
    if settings["fixed"] and any(abs(weights[name] - default[name]) > 1e-6 for name in objectives):
        raise BadRequest(
            f"this version answers one preference, {format_weights(default)}, found {format_weights(weights)}: ask the "
            "steerable soup"
        )
    return [weights[name] for name in objectives]


# MLflow warns here that type hints are missing, but with them it would drop the parameters of the signature.
with warnings.catch_warnings(record=True):

    class Steerable(PythonModel):
        """The soup behind MLflow's predict(); load_model(uri, model_config={...}) overrides its settings."""

        def load_context(self, context):
            self.answers = Answers(Path(context.artifacts["soup"]), context.model_config)

        def predict(self, context, model_input, params=None):
            return self.answers(model_input, params or {})


mlflow.models.set_model(Steerable())
