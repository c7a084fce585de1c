"""The application: routes, the desk's page, errors in OpenAI's form, health and metrics."""

from collections.abc import Callable
from pathlib import Path

from fastapi import APIRouter, Depends, FastAPI
from fastapi import Request as HttpRequest
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from fastapi.staticfiles import StaticFiles

import bonesoup
from bonesoup.method.methods import METHODS
from bonesoup.serving import errors, hooks, openai_routes, replies, soup_routes
from bonesoup.serving.errors import ErrorBody
from bonesoup.serving.hooks import Hook
from bonesoup.serving.live import Live
from bonesoup.serving.metrics import Metrics
from bonesoup.serving.middleware import Access, Guard
from bonesoup.serving.openai_routes import Now, answers, known_query

PAGE = Path(__file__).with_name("page")
STATUSES = (400, 401, 403, 404, 408, 413, 415, 429, 500, 503, 504)
router = APIRouter(dependencies=[Depends(known_query)])


def application(
    live: Callable[[], Live], metrics: Metrics, access: Access | None = None, hook: Hook | None = None
) -> Guard:
    """Make the ASGI application.

    Args:
        live: returns what answers now; it changes when a new version is taken into service.
        hook: takes events of the registry.
    """
    access = access or Access()
    # FastAPI's pages of documentation load scripts from other sites; /openapi.json stays.
    app = FastAPI(
        title="bonesoup",
        version=bonesoup.__version__,
        docs_url=None,
        redoc_url=None,
        responses={status: {"model": ErrorBody} for status in STATUSES},
    )
    app.state.live, app.state.metrics, app.state.patience, app.state.hook = live, metrics, access.patience, hook
    errors.install(app)
    for routes in (router, openai_routes.router, soup_routes.router, hooks.router):
        app.include_router(routes)
    app.mount("/assets", StaticFiles(directory=PAGE), name="assets")
    _without_422(app)
    # Around everything, even the handler of unexpected errors.
    return Guard(app, access, metrics)


@router.get("/health", **answers(replies.Health))
@router.get("/v1/health", include_in_schema=False)
async def health(now: Now):
    """Say whether the engine answers; 503 if it does not."""
    state = {"model": now.source.name, "version": now.source.version}
    state |= {"running": now.engine.running, "waiting": now.engine.waiting}
    if now.engine.fault:
        return JSONResponse(state | {"status": "failed", "fault": now.engine.fault}, 503)
    return state | {"status": "ok"}


@router.get("/metrics", response_class=PlainTextResponse)
async def metrics(http: HttpRequest, now: Now):
    """Give counters and histograms to Prometheus."""
    metrics = http.app.state.metrics
    metrics.running.set(now.engine.running)
    metrics.waiting.set(now.engine.waiting)
    metrics.serving.clear()
    metrics.serving.labels(now.source.name, now.source.version or "local").set(1)
    return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


@router.get("/", include_in_schema=False)
async def page():
    """Serve the mixing desk."""
    return FileResponse(PAGE / "index.html", headers={"Cache-Control": "no-cache"})


@router.get("/assets/methods.css", include_in_schema=False)
async def colours():
    """Serve the desk's colours of methods, those of the report: `--<key>`, and `--c` within the class of a method."""

    def palette(place: int) -> str:
        return ":root { " + " ".join(f"--{key}: {method.colours[place]};" for key, method in METHODS.items()) + " }"

    classes = "\n".join(f".{key} {{ --c: var(--{key}); }}" for key in METHODS)
    sheet = f"{palette(0)}\n@media (prefers-color-scheme: dark) {{ {palette(1)} }}\n{classes}\n"
    return Response(sheet, media_type="text/css", headers={"Cache-Control": "no-cache"})


def _without_422(app: FastAPI) -> None:
    """Remove FastAPI's form of a bad request from the schema: errors here have OpenAI's form."""
    make = app.openapi

    def openapi() -> dict:
        schema = make()
        for path in schema["paths"].values():
            for operation in path.values():
                operation["responses"].pop("422", None)
        return schema

    app.openapi = openapi
