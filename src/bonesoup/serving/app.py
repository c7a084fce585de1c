"""The routes: OpenAI's, the soup's own, the page, health and metrics."""

import asyncio
import io
import tempfile
import zipfile
from collections.abc import Callable, Collection
from pathlib import Path

from fastapi import FastAPI
from fastapi import Request as HttpRequest
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.types import ASGIApp

import bonesoup
from bonesoup.generation.soup import merge_adapters
from bonesoup.serving import errors, steering
from bonesoup.serving.completions import Job, Live, stream, submit, wants_usage, whole
from bonesoup.serving.errors import ApiError, ErrorBody
from bonesoup.serving.metrics import Metrics
from bonesoup.serving.middleware import Guard
from bonesoup.serving.protocol import ChatBody, CompletionBody
from bonesoup.serving.sending import Patient
from bonesoup.weights.adapters import save

PAGE = Path(__file__).with_name("page")
FAILURES = {status: {"model": ErrorBody} for status in (400, 401, 403, 404, 413, 429, 500, 503, 504)}


def application(
    live: Callable[[], Live],
    metrics: Metrics,
    token: str | None = None,
    hosts: Collection[str] | None = None,
    largest: int = 1 << 18,
    patience: float = 60,
    **options,
) -> ASGIApp:
    """The ASGI application.

    Args:
        live: what answers now; another one after a new version was taken.
        hosts: names under which the server may be asked; None for any.
        largest: bytes of a body; what it holds is made into tokens while other requests wait.
        patience: seconds a client may leave sent text unread.
        options: of FastAPI.
    """
    # FastAPI's own pages of documentation load their scripts from elsewhere; /openapi.json stays.
    app = FastAPI(
        title="bonesoup", version=bonesoup.__version__, docs_url=None, redoc_url=None, responses=FAILURES, **options
    )
    errors.install(app)

    @app.get("/health")
    async def health():
        """Whether the engine answers; 503 where it does not."""
        now = live()
        state = {"model": now.source.name, "version": now.source.version}
        state |= {"running": now.engine.running, "waiting": now.engine.waiting}
        if now.engine.fault:
            return JSONResponse(state | {"status": "failed", "fault": now.engine.fault}, 503)
        return state | {"status": "ok"}

    @app.get("/metrics", response_class=PlainTextResponse)
    async def prometheus():
        """Counters and histograms for Prometheus."""
        metrics.running.set(live().engine.running)
        metrics.waiting.set(live().engine.waiting)
        return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/v1/models")
    async def models():
        """The models: the soup, and the baselines beside it."""
        return {"object": "list", "data": [_model(live(), name) for name in live().source.models.values()]}

    @app.get("/v1/models/{model:path}")
    async def model(model: str):
        """One model."""
        now = live()
        return _model(now, now.source.models[steering.method_of(now.source, model)])

    @app.post("/v1/chat/completions")
    async def chat_completions(body: ChatBody, http: HttpRequest):
        """Answer a conversation at a preference."""
        return await respond(body, http)

    @app.post("/v1/completions")
    async def completions(body: CompletionBody, http: HttpRequest):
        """Continue a text at a preference."""
        return await respond(body, http)

    def queued(body: ChatBody | CompletionBody) -> Job:
        now = live()
        try:
            return submit(now, body)
        except ApiError:
            # A new version took the engine's place between the two lines.
            if live() is now:
                raise
            return submit(live(), body)

    async def respond(body: ChatBody | CompletionBody, http: HttpRequest):
        job = queued(body)
        if body.stream:
            return Patient(stream(job, wants_usage(body)), patience, job.release)
        return JSONResponse(await whole(job, http))

    @app.get("/v1/soup")
    async def soup():
        """Objectives, policies, named preferences, and what was measured along the front."""
        source = live().source
        rows = {p.slot: dict(zip(source.objectives, p.row, strict=True)) for p in source.soup.policies}
        bounds = live().bounds
        return {
            "name": source.name,
            "version": source.version,
            "objectives": list(source.objectives),
            "beta": source.beta,
            "policies": rows,
            "default": source.default,
            "preferences": source.preferences,
            "methods": list(source.soups),
            "models": source.models,
            "generation": {
                "temperature": source.temperature,
                "max_new_tokens": min(source.max_new_tokens, bounds.answer),
                "max_prompt_tokens": bounds.prompt,
            },
            "front": source.front,
        }

    @app.get("/v1/soup/coefficients")
    async def coefficients(preference: str | None = None, model: str | None = None):
        """What a preference means: the coefficients, and what was measured there."""
        source = live().source
        name = model or source.name
        method, chosen = steering.method_of(source, name), steering.preference_of(source, name, preference)
        values = steering.coefficients(source, method, chosen)
        return {
            "preference": chosen,
            "coefficients": values,
            "sum": sum(values.values()),
            "l1": sum(map(abs, values.values())),
            "expected": steering.expected(source, method, chosen),
        }

    @app.get("/v1/soup/adapter", response_class=Response)
    async def adapter(preference: str | None = None, model: str | None = None):
        """The exact soup of a preference as a PEFT adapter, zipped."""
        source = live().source
        name = model or source.name
        method, chosen = steering.method_of(source, name), steering.preference_of(source, name, preference)
        if not source.soups[method].policies:
            raise ApiError(400, f"{name} is the base alone: it has no adapter", "model")
        packed = await asyncio.to_thread(_zip, source, method, chosen)
        title = f"{source.name.replace('/', '-')}-{steering.shown(chosen).replace('=', '-').replace(',', '-')}.zip"
        return Response(
            packed, media_type="application/zip", headers={"Content-Disposition": f'attachment; filename="{title}"'}
        )

    if PAGE.is_dir():

        @app.get("/", include_in_schema=False)
        async def page():
            return FileResponse(PAGE / "index.html", headers={"Cache-Control": "no-cache"})

        app.mount("/assets", StaticFiles(directory=PAGE), name="assets")

    _only_ours(app)
    # Around everything, also around what answers an error that nobody expected.
    return Guard(app, token, hosts, largest, metrics)


def _model(now: Live, name: str) -> dict:
    source = now.source
    return {
        "id": name,
        "object": "model",
        "created": 0,
        "owned_by": "bonesoup",
        "version": source.version,
        "objectives": list(source.objectives),
        "preferences": list(source.preferences),
    }


def _zip(source, method: str, chosen: dict[str, float]) -> bytes:
    merged, _ = merge_adapters(source.soups[method], [chosen[name] for name in source.objectives])
    with tempfile.TemporaryDirectory() as folder, io.BytesIO() as out:
        save(merged, Path(folder) / "adapter", str(source.soup.base))
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as packed:
            for path in sorted((Path(folder) / "adapter").iterdir()):
                packed.write(path, path.name)
        return out.getvalue()


def _only_ours(app: FastAPI) -> None:
    """Take FastAPI's own form of a bad request out of the schema: errors here have OpenAI's."""
    make = app.openapi

    def openapi() -> dict:
        schema = make()
        for path in schema["paths"].values():
            for operation in path.values():
                operation["responses"].pop("422", None)
        return schema

    app.openapi = openapi
