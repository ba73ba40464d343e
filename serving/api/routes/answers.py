"""Answers as bytes, and how a refused request says which field is wrong."""

from typing import Any, Final

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError

from roomrec.errors import (
    BundleError,
    RegistryConflictError,
    RegistryError,
    RegistryUnavailableError,
    RoomRecError,
    StateError,
)
from serving.api import messages
from serving.http.messages import Answer

REFUSED: Final[dict[int | str, dict[str, Any]]] = {
    413: {"model": messages.Problem, "description": "The body is too long"},
    422: {"model": messages.FieldProblem, "description": "A field is wrong; detail names it"},
    503: {"model": messages.Problem, "description": "Too much is asked, or state or log cannot be used now; try again"},
}
"""What most routes may answer instead, for OpenAPI."""

_STATUS: Final[dict[type[RoomRecError], int]] = {
    StateError: 503,
    RegistryUnavailableError: 503,
    RegistryConflictError: 409,
    RegistryError: 404,
    BundleError: 409,
}
"""The first that fits: what is said more precisely stands before."""

_RETRY_AFTER: Final = ((b"retry-after", b"1"),)


def answer_errors(api: FastAPI) -> None:
    """Turn the library's errors into answers."""

    @api.exception_handler(RoomRecError)
    async def refused(_: Request, error: RoomRecError) -> Response:
        return as_response(answer_error(error))

    @api.exception_handler(RequestValidationError)
    async def unprocessable(_: Request, error: RequestValidationError) -> Response:
        named = [{"loc": each["loc"], "msg": each["msg"], "type": each["type"]} for each in error.errors()]
        return json_answer({"detail": named}, status=422)


def answer_error(error: RoomRecError) -> Answer:
    """Return the answer to a request that one of the library's errors has ended.

    Raises:
        RoomRecError: The error itself, if it is none that a request should meet.
    """
    status = next((status for kind, status in _STATUS.items() if isinstance(error, kind)), None)
    if status is None:
        raise error
    return Answer(status, orjson.dumps({"detail": str(error)}), headers=_RETRY_AFTER if status == 503 else ())


def unprocessable(error: ValidationError) -> Answer:
    """Name the wrong fields without repeating what was sent."""
    named = [
        {"loc": ["body", *each["loc"]], "msg": each["msg"], "type": each["type"]}
        for each in error.errors(include_url=False, include_context=False, include_input=False)
    ]
    return Answer(422, orjson.dumps({"detail": named}))


def wrong_field(name: str, message: str, *, where: str = "body") -> Answer:
    """Name one wrong field of a body, or of where it stood."""
    loc = [where] if name == where else [where, name]
    return Answer(422, orjson.dumps({"detail": [{"loc": loc, "msg": message, "type": "value_error"}]}))


def json_body(model: type[BaseModel]) -> dict[str, Any]:
    """Return what OpenAPI says of a body that the route reads itself."""
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": model.model_json_schema()}}}}


def as_response(answer: Answer) -> Response:
    """Return an answer as FastAPI sends it."""
    return Response(
        answer.body,
        status_code=answer.status,
        headers={name.decode("latin-1"): value.decode("latin-1") for name, value in answer.headers},
        media_type=answer.content_type.decode("latin-1"),
    )


def json_answer(content: Any, *, status: int = 200) -> Response:
    """Answer with JSON."""
    return as_response(Answer(status, orjson.dumps(content)))
