"""OpenAI's routes, each with a preference: models, chat, completions, responses, and the tokens of a text."""

import asyncio
from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Depends, Header
from fastapi import Request as HttpRequest
from fastapi.responses import JSONResponse

from bonesoup.serving import replies, responses, steering
from bonesoup.serving.completions import stream, whole
from bonesoup.serving.errors import ApiError
from bonesoup.serving.jobs import submit
from bonesoup.serving.live import Live
from bonesoup.serving.middleware import EventStream
from bonesoup.serving.protocol import ChatBody, CompletionBody, DetokenizeBody, TokenizeBody
from bonesoup.serving.responses import ResponseBody
from bonesoup.serving.text import plain_tokens


async def live_now(http: HttpRequest) -> Live:
    """Provide what answers now."""
    return http.app.state.live()


async def known_query(http: HttpRequest) -> None:
    """Refuse query parameters that the route does not know, rather than ignore a misspelt preference.

    Azure's clients send `api-version` with every request.
    """
    known = {param.alias for param in http.scope["route"].dependant.query_params} | {"api-version"}
    if unknown := [name for name in http.query_params if name not in known]:
        raise ApiError(400, f"unknown query parameter {unknown[0]}: leave it out", unknown[0], "unknown_parameter")


Now = Annotated[Live, Depends(live_now)]
Preference = Annotated[
    str | None, Header(alias="X-Bonesoup-Preference", description="as `preference` in the body, for proxies")
]
router = APIRouter(dependencies=[Depends(known_query)])


def answers(model, *, events: bool = False) -> dict:
    """Describe the body of a 200, which is written without the model's help."""
    content = {"content": {"text/event-stream": {"schema": {"type": "string"}}}} if events else {}
    return {"response_model": None, "responses": {200: {"model": model, "description": "the answer", **content}}}


@router.get("/v1/models", **answers(replies.Models))
async def models(now: Now):
    """List the models: the soup at its default and at each name of a preference or mixture, and the baselines."""
    main, *others = now.source.models.values()
    names = [main, *(f"{main}@{preset}" for preset in (*now.source.preferences, *now.source.presets)), *others]
    return {"object": "list", "data": [_model(now, name) for name in names]}


@router.get("/v1/models/{model:path}", **answers(replies.Model))
async def model(model: str, now: Now):
    """Describe one model."""
    return _model(now, model)


def _model(now: Live, name: str) -> dict:
    source, choice = now.source, steering.choose(now.source, name)
    return {
        "id": name,
        "object": "model",
        "created": 0,
        "owned_by": "bonesoup",
        "version": source.version,
        "objectives": list(source.objectives),
        "preferences": list(source.preferences),
        "adapters": list(choice.coefficients),
        **choice.steered,
        "context_length": now.context,
        # vLLM's name for it.
        "max_model_len": now.context,
        "max_prompt_tokens": now.bounds.prompt,
        "max_completion_tokens": now.bounds.answer,
        "system_messages": now.system_messages,
    }


@router.post("/v1/chat/completions", **answers(replies.ChatCompletion, events=True))
async def chat_completions(body: ChatBody, http: HttpRequest, preference: Preference = None):
    """Answer a conversation at a preference, or at several in one batch."""
    if body.answer_schema is not None:
        # Compiled here, it does not hold up the answers of others; `submit` then has it at hand.
        await asyncio.to_thread(http.app.state.live().json_schema, body.answer_schema)
    return await _complete(body, http, preference)


@router.post("/v1/completions", **answers(replies.TextCompletion, events=True))
async def completions(body: CompletionBody, http: HttpRequest, preference: Preference = None):
    """Continue a text at a preference."""
    return await _complete(body, http, preference)


async def _complete(body: ChatBody | CompletionBody, http: HttpRequest, preference: str | None):
    job = submitted(http, lambda now: submit(now, body, preference))
    if body.stream:
        return EventStream(stream(job), http.app.state.patience, job.release)
    return JSONResponse(await whole(job, http))


def submitted(http: HttpRequest, send: Callable):
    """Submit to what answers now; once more if a new version took the engine's place in between."""
    now = http.app.state.live()
    try:
        return send(now)
    except ApiError:
        if (later := http.app.state.live()) is now:
            raise
        return send(later)


@router.post("/v1/responses", **answers(responses.Response, events=True))
async def create_response(body: ResponseBody, http: HttpRequest, preference: Preference = None):
    """Answer in the form of OpenAI's Responses API; nothing is stored."""
    try:
        job = submitted(http, lambda now: submit(now, body.chat(), preference))
    except ApiError as error:
        if body.instructions and error.param == "input.0.role":
            error.param = "instructions"
        raise
    if body.stream:
        return EventStream(responses.stream(job, body), http.app.state.patience, job.release)
    return JSONResponse(responses.convert(await whole(job, http), body))


@router.get("/tokenizer_info", **answers(replies.TokenizerInfo))
async def tokenizer_info(now: Now):
    """Describe the tokenizer, as vLLM does; with /tokenize it stands for a tokenizer in lm-evaluation-harness."""
    names = ("bos_token", "eos_token", "pad_token", "unk_token", "chat_template")
    return {name: getattr(now.tokenizer, name) for name in names} | {"model_max_length": now.context}


@router.post("/tokenize", **answers(replies.TokenIds))
@router.post("/v1/tokenize", include_in_schema=False)
async def tokenize(body: TokenizeBody, now: Now):
    """Give the token ids of a text, or of a conversation through the chat template."""
    ids = now.chat_prompt(body.messages) if body.messages else plain_tokens(now.tokenizer, body.prompt)
    return {"tokens": ids, "count": len(ids), "max_model_len": now.context}


@router.post("/detokenize", **answers(replies.Text))
@router.post("/v1/detokenize", include_in_schema=False)
async def detokenize(body: DetokenizeBody, now: Now):
    """Give the text of token ids."""
    ids = now.plain_prompt(body.tokens, "tokens") if body.tokens else []
    return {"prompt": now.tokenizer.decode(ids)}
