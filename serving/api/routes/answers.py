"""Answers as bytes, and how a refused request says which field is wrong."""

from typing import Any, Final

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError

from roomrec.errors import BundleError, RegistryError, StateError
from serving.api import messages

RETRY_AFTER: Final = {"Retry-After": "1"}
"""Headers of an answer that may be other in a second."""

REFUSED: Final[dict[int | str, dict[str, Any]]] = {
    413: {"model": messages.Problem, "description": "The body is too long"},
    422: {"model": messages.FieldProblem, "description": "A field is wrong; detail names it"},
    503: {"model": messages.Problem, "description": "State or log cannot be used now; try again"},
}
"""What most routes may answer instead, for OpenAPI."""


def answer_errors(api: FastAPI) -> None:
    """Turn the library's errors into answers."""

    @api.exception_handler(StateError)
    async def unavailable(_: Request, error: StateError) -> Response:
        return json_answer({"detail": str(error)}, status=503, headers=RETRY_AFTER)

    @api.exception_handler(RegistryError)
    async def missing(_: Request, error: RegistryError) -> Response:
        return json_answer({"detail": str(error)}, status=404)

    @api.exception_handler(BundleError)
    async def refused(_: Request, error: BundleError) -> Response:
        return json_answer({"detail": str(error)}, status=409)

    @api.exception_handler(RequestValidationError)
    async def unprocessable(_: Request, error: RequestValidationError) -> Response:
        named = [{"loc": each["loc"], "msg": each["msg"], "type": each["type"]} for each in error.errors()]
        return json_answer({"detail": named}, status=422)


def unprocessable(error: ValidationError) -> Response:
    """Name the wrong fields without repeating what was sent."""
    named = [
        {"loc": ["body", *each["loc"]], "msg": each["msg"], "type": each["type"]}
        for each in error.errors(include_url=False, include_context=False, include_input=False)
    ]
    return json_answer({"detail": named}, status=422)


def wrong_field(name: str, message: str, *, where: str = "body") -> Response:
    """Name one wrong field of a body, or of where it stood."""
    loc = [where] if name == where else [where, name]
    return json_answer({"detail": [{"loc": loc, "msg": message, "type": "value_error"}]}, status=422)


def json_answer(content: Any, *, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Answer with JSON."""
    return Response(
        orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY),
        status_code=status,
        headers=headers,
        media_type="application/json",
    )
