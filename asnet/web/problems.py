"""Error responses: a status and one sentence."""

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from asnet.errors import AsnetError
from asnet.web.form import StorageError
from asnet.web.jobs import QueueFullError, UnknownJobError

_LONGEST_QUOTE = 40

#: Expected values of the parameters of all routes.
_EXPECTED = {
    "scale": "'auto' or a whole number from 1 to 99",
    "strength": "a number from 0 to 1",
    "denoise": "a number from 0 to 1",
    "line": "LENGTH,ANGLE in pixels and degrees",
    "region": "LEFT,TOP,RIGHT,BOTTOM in whole pixels",
    "length": "a number of pixels",
    "angle": "a number of degrees",
}

_MEANINGS = {
    404: "No such deblurring.",
    409: "It is not done.",
    413: "The upload is too large.",
    422: "The photograph, the kernel or an option is unusable.",
    503: "Too many photographs are waiting.",
    507: "There is no room for the upload.",
}


class Problem(BaseModel):
    """Body of an error response."""

    detail: str = Field(description="One sentence for the user.")


def described_problems(*codes: int) -> dict[int | str, dict[str, Any]]:
    """Return the schema of a route's error statuses."""
    return {code: {"model": Problem, "description": _MEANINGS[code]} for code in codes}


def add_problems(application: FastAPI) -> None:
    """Answer every failure of an application with a `Problem`."""

    @application.exception_handler(AsnetError)
    async def say(_: Request, error: AsnetError) -> JSONResponse:
        codes = {QueueFullError: 503, UnknownJobError: 404, StorageError: 507}
        code = codes.get(type(error), 422)
        return JSONResponse({"detail": str(error)}, code, {"Retry-After": "2"} if code == 503 else None)

    @application.exception_handler(RequestValidationError)
    async def say_invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        return JSONResponse({"detail": _sentence(error.errors()[0])}, 422)

    @application.exception_handler(HTTPException)
    async def say_refused(request: Request, error: HTTPException) -> JSONResponse:
        if isinstance(error.__cause__, OSError):
            # FastAPI blames the upload for it.
            return await say(request, StorageError(error.__cause__))
        sentences = {
            400: "the upload is damaged: it must be a form (multipart/form-data) "
            "with the photograph as a file",
            404: f"there is nothing at {request.url.path}",
            405: f"{request.url.path} does not support {request.method}",
        }
        detail = sentences.get(error.status_code, error.detail)
        return JSONResponse({"detail": detail}, error.status_code, error.headers)


def _sentence(error: Mapping[str, Any]) -> str:
    """Return what is wrong with a parameter, from one of pydantic's errors."""
    name, value = error["loc"][-1], error["input"]
    if name in ("photograph", "kernel"):
        return f"the field {name} must be a file with a name" + (
            "; there is none" if value is None else ", got plain text"
        )
    if name == "file":
        return f"there is no file {_quoted(value)} of a deblurring; it may be {error['ctx']['expected']}"
    expected = f"{name} must be {_EXPECTED[name]}"
    if error["type"] == "missing":
        return f"{expected}; it was not given"
    return f"{expected}, got {_quoted(value)}"


def _quoted(value: object) -> str:
    if not isinstance(value, str):
        return "a file"
    return repr(value if len(value) <= _LONGEST_QUOTE else f"{value[:_LONGEST_QUOTE]}...")
