"""Errors in OpenAI's form: {"error": {"message", "type", "param", "code"}}."""

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException


class Problem(BaseModel):
    """What went wrong: a message for people, a type and a code for programs, the parameter at fault."""

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


def body(status: int, message: str, param: str | None = None, code: str | None = None) -> dict:
    kinds = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}
    kind = kinds.get(status, "server_error" if status >= 500 else "invalid_request_error")
    # What a client sent may be quoted, and half of a surrogate pair cannot be sent back.
    message, param = (text and text.encode(errors="backslashreplace").decode() for text in (message, param))
    return ErrorBody(error=Problem(message=message, type=kind, param=param, code=code)).model_dump()


def answer(error: ApiError) -> JSONResponse:
    return JSONResponse(body(error.status, str(error), error.param, error.code), error.status, error.headers)


def install(app: FastAPI) -> None:
    """Answer every error of the application in this form."""

    @app.exception_handler(ApiError)
    async def own(_: Request, error: ApiError) -> JSONResponse:
        return answer(error)

    @app.exception_handler(HTTPException)
    async def http(_: Request, error: HTTPException) -> JSONResponse:
        return JSONResponse(body(error.status_code, str(error.detail)), error.status_code, error.headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"] if part not in ("body", "query", "path"))
        more = f" (and {len(error.errors()) - 1} more)" if len(error.errors()) > 1 else ""
        text = f"{where}: {first['msg']}" if where else first["msg"]
        return JSONResponse(body(400, text + more, where or None, "invalid_value"), 400)

    @app.exception_handler(Exception)
    async def unexpected(_: Request, error: Exception) -> JSONResponse:
        return JSONResponse(body(500, f"unexpected {type(error).__name__}; the server's log has the rest"), 500)
