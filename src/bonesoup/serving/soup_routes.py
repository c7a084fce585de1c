"""Routes of the soup: its description, the meaning of a preference, its adapter, and the likelihood of given texts."""

import asyncio
import shutil
import tempfile
from functools import partial
from pathlib import Path

from fastapi import APIRouter, Depends
from fastapi import Request as HttpRequest
from fastapi.responses import JSONResponse, Response

from bonesoup.generation.batch import GivenText
from bonesoup.generation.soup import mixed
from bonesoup.method.methods import title
from bonesoup.method.preferences import format_weights
from bonesoup.serving import replies, steering
from bonesoup.serving.errors import ApiError
from bonesoup.serving.jobs import next_event, queue, unless_gone
from bonesoup.serving.live import Live
from bonesoup.serving.logprobs import chat_logprobs
from bonesoup.serving.openai_routes import Now, Preference, answers, known_query, submitted
from bonesoup.serving.protocol import RewardsBody, ScoreBody
from bonesoup.serving.steering import Choice
from bonesoup.serving.text import plain_tokens
from bonesoup.weights.adapter_files import save

router = APIRouter(dependencies=[Depends(known_query)])


@router.get("/v1/soup", **answers(replies.SoupReply))
async def soup(now: Now):
    """Describe the soup: objectives, policies, named preferences, and the scores measured along the front."""
    source = now.source
    measured = source.front["methods"] if source.front else {}

    def named(weights) -> dict:
        return dict(zip(source.objectives, weights, strict=True))

    return {
        "name": source.name,
        "version": source.version,
        "objectives": list(source.objectives),
        "beta": source.beta,
        "mapping": source.soup.mapping,
        "policies": {policy.slot: named(policy.row) for policy in source.soup.policies},
        "default": source.default,
        "preferences": source.preferences,
        "presets": source.presets,
        "grid": [named(preference) for preference in source.soup.preferences],
        "examples": list(source.examples),
        "methods": list(source.soups),
        # Methods that are not served may be among those measured.
        "titles": {method: title(method) for method in dict.fromkeys([*source.soups, *measured])},
        "models": source.models,
        "rewards": source.rewards is not None,
        "system_messages": now.system_messages,
        "generation": {
            "temperature": source.temperature,
            "max_new_tokens": min(source.max_new_tokens, now.bounds.answer),
            "max_prompt_tokens": now.bounds.prompt,
        },
        "front": source.front,
    }


@router.get("/v1/soup/coefficients", **answers(replies.Meaning))
async def coefficients(now: Now, preference: str | None = None, model: str | None = None):
    """Translate a preference into coefficients, with the scores measured there."""
    choice = _choice(now, preference, model)
    values = choice.coefficients.values()
    return choice.steered | {
        "sum": sum(values),
        "l1": sum(map(abs, values)),
        "expected": steering.expected(now.source, choice),
    }


@router.get("/v1/soup/adapter", response_class=Response)
async def adapter(now: Now, preference: str | None = None, model: str | None = None):
    """Download the exact soup of a preference, or of adapters' weights, as a PEFT adapter, zipped."""
    choice = _choice(now, preference, model)
    if not choice.soup.policies:
        raise ApiError(400, f"{now.source.models[choice.method]} is the base alone: it has no adapter", "model")
    packed = await asyncio.to_thread(_zip, now, choice)
    asked = choice.coefficients if choice.preference is None else choice.preference
    at = format_weights(asked).replace("=", "-").replace(",", "-")
    file = f"{now.source.name.replace('/', '-')}-{at}.zip"
    headers = {"Content-Disposition": f'attachment; filename="{file}"'}
    return Response(packed, media_type="application/zip", headers=headers)


def _choice(now: Live, preference: str | None, model: str | None) -> Choice:
    return steering.choose(now.source, model or now.source.name, ("preference", preference))


def _zip(now: Live, choice: Choice) -> bytes:
    merged = mixed(choice.soup, list(choice.coefficients.values()))
    with tempfile.TemporaryDirectory() as folder:
        save(merged, Path(folder) / "adapter", str(now.source.soup.base))
        return Path(shutil.make_archive(f"{folder}/packed", "zip", f"{folder}/adapter")).read_bytes()


@router.post("/v1/soup/rewards", **answers(replies.Rewarded))
async def rewards(body: RewardsBody, now: Now):
    """Score given answers by the rewards of the run, if it is served from its own folder."""
    source = now.source
    if source.rewards is None:
        text = "the rewards are not at hand: they are where a run is served from its own folder"
        raise ApiError(404, text, code="no_rewards")
    messages = [{"role": turn.role, "content": turn.content} for turn in body.messages]
    try:
        scores = await asyncio.to_thread(source.rewards.score, messages, body.answers)
    except ValueError as error:
        raise ApiError(400, str(error), "answers") from None
    return {
        "objectives": list(source.objectives),
        "scores": {unit: values.tolist() for unit, values in scores.items()},
    }


@router.post("/v1/score", **answers(replies.Scores))
async def score(body: ScoreBody, http: HttpRequest, preference: Preference = None):
    """Score given answers at given preferences, to tell which preference makes them likeliest.

    Every answer is scored at every preference in one batch; without any, at those where the front was measured.
    """
    live, choices, texts, answers = submitted(http, lambda now: _submit_scores(now, body, preference))
    waits = [next_event(live, answer) for answer in answers]
    scores = await unless_gone(http, waits, partial(live.engine.cancel, answers))
    data = [
        {
            "index": index,
            "answer": index // len(choices),
            **choices[index % len(choices)].steered,
            "logprob": sum(each.logprob for each in likely),
            "tokens": len(likely),
            "logprobs": chat_logprobs(live.tokenizer, likely)["content"] if body.logprobs else None,
        }
        for index, (likely, _) in enumerate(scores)
    ]
    groups = [data[i : i + len(choices)] for i in range(0, len(data), len(choices))]
    prompt, scored = texts[0][1], sum(len(ids) - begin for ids, begin in texts)
    return JSONResponse(
        {
            "object": "list",
            "model": body.model,
            "data": data,
            "likeliest": [max(group, key=lambda each: each["logprob"])["index"] for group in groups],
            "usage": {"prompt_tokens": prompt + scored, "completion_tokens": 0, "total_tokens": prompt + scored},
        }
    )


def _submit_scores(live: Live, body: ScoreBody, header: str | None):
    preferences = body.preferences
    given = (preferences, body.preference, body.adapters, header)
    if all(value is None for value in given) and "@" not in body.model:
        names = live.source.objectives
        preferences = [dict(zip(names, weights, strict=True)) for weights in live.source.soup.preferences] or None
    choices = steering.choose_all(live.source, body.model_copy(update={"preferences": preferences}), header)
    prompt = live.chat_prompt(body.messages) if body.messages else live.plain_prompt(body.prompt)
    ends = body.messages is not None if body.end is None else body.end
    end = [live.tokenizer.eos_token_id] if ends else []
    texts = []
    for place, answer in enumerate(body.answers):
        ids = [*prompt, *plain_tokens(live.tokenizer, answer), *end]
        if len(ids) == len(prompt):
            raise ApiError(400, f"answers.{place} has no tokens", f"answers.{place}")
        live.check_text(len(ids), f"answers.{place}")
        texts.append((ids, len(prompt)))
    requests = [GivenText(None, ids, begin, live.vector(choice), 0) for ids, begin in texts for choice in choices]
    return live, choices, texts, queue(live, requests, choices[0].method)
