"""The webhook of `serve --follow`: a signed event of the registry has it check for a new champion at once."""

from collections.abc import Callable
from dataclasses import dataclass

from fastapi import APIRouter, Request

from bonesoup.registry import events
from bonesoup.serving.errors import ApiError

PATH = "/webhooks/registry"
router = APIRouter()


@dataclass(frozen=True)
class Hook:
    """The reaction to an event.

    Attributes:
        secret: the secret that events are signed with.
        look: wakes the check of the registry, and returns at once.
    """

    secret: str
    look: Callable[[], None]


@router.post(PATH, status_code=202, include_in_schema=False)
async def registry(http: Request) -> dict[str, str]:
    """Take an event of MLflow or of `bonesoup promote`; the registry says what is champion, not the event."""
    hook: Hook | None = http.app.state.hook
    if hook is None:
        raise ApiError(404, f"this server takes no events: start it with --follow and {events.SECRET}")
    if problem := events.fault(hook.secret, http.headers, await http.body()):
        raise ApiError(401, problem, code="invalid_signature")
    hook.look()
    return {"status": "checking the registry"}
