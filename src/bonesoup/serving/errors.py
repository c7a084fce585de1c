"""Errors in OpenAI's form: {"error": {"message", "type", "param", "code"}}."""

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

# A message may quote a client's text, which may be as long as a body.
LONGEST = 500
KINDS = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}


class Problem(BaseModel):
    """The error: a message for people, a type and a code for programs, and the field of the request at fault."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(BaseModel):
    """The body of every answer that is an error."""

    error: Problem


class ApiError(Exception):
    """An error with its HTTP status; `param` names the field of the request at fault."""

    def __init__(
        self,
        status: int,
        message: str,
        param: str | None = None,
        code: str | None = None,
        headers: dict[str, str] | None = None,
    ):
        super().__init__(message)
        self.status = status
        self.param = param
        self.code = code
        self.headers = headers


def shortened(text: str, longest: int = 60) -> str:
    """Shorten text of a client."""
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


def quoted(text: str) -> str:
    """Quote text of a client, shortened."""
    return repr(shortened(text))


def body(error: ApiError) -> dict:
    """Put an error into OpenAI's form."""
    kind = KINDS.get(error.status, "server_error" if error.status >= 500 else "invalid_request_error")
    message, param = _sendable(str(error), LONGEST), error.param and _sendable(error.param, 100)
    return {"error": {"message": message, "type": kind, "param": param, "code": error.code}}


def _sendable(text: str, longest: int) -> str:
    """Shorten a text and replace half surrogate pairs, which JSON can write but nobody can send back."""
    return shortened(text.encode(errors="backslashreplace").decode(), longest)


def answer(error: ApiError) -> JSONResponse:
    """Make the HTTP response of an error."""
    return JSONResponse(body(error), error.status, error.headers)


def install(app: FastAPI) -> None:
    """Answer every error of the application in this form."""

    @app.exception_handler(ApiError)
    async def known(_: Request, error: ApiError) -> JSONResponse:
        return answer(error)

    @app.exception_handler(HTTPException)
    async def http(_: Request, error: HTTPException) -> JSONResponse:
        return answer(ApiError(error.status_code, str(error.detail), headers=error.headers))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        return answer(_refusal(request, error.errors()[0]))

    @app.exception_handler(Exception)
    async def unexpected(_: Request, error: Exception) -> JSONResponse:
        return answer(ApiError(500, f"unexpected {type(error).__name__}; see the server's log"))


def _refusal(request: Request, fault: dict) -> ApiError:
    """Say one fault of a request in a sentence; `param` is the field as the client wrote it."""
    kind, place = fault["type"], [part for part in fault["loc"] if part not in ("body", "query", "path")]
    if kind == "json_invalid":
        return ApiError(
            400, f"the body is not JSON: {fault['ctx']['error']} (character {place[0]})", code="invalid_json"
        )
    about = fault.get("ctx", {})
    if not place and "param" not in about:
        if fault["loc"] == ("body",) and "json" not in request.headers.get("content-type", ""):
            return ApiError(415, "the body must be JSON, sent with the header Content-Type: application/json")
        return ApiError(400, "the body must be a JSON object", code="invalid_value")
    param = ".".join(map(str, [*place, about["param"]] if about.get("param") else place))
    message = fault["msg"]
    if kind == "missing":
        message = "is required"
    elif kind == "unknown_field":
        message = f"unknown field {shortened(param)}{about['hint']}"
    elif kind not in ("not_supported", "refused"):
        message = message[0].lower() + message[1:]
    # This project's messages name their field; pydantic's do not.
    if kind != "unknown_field" and param not in message:
        message = f"{param} {message}" if kind == "missing" else f"{param}: {message}"
    return ApiError(400, message, param, "invalid_value")
