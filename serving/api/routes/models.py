"""Versions and channels."""

from typing import Annotated, Any, Final

from fastapi import FastAPI, Query, Request, Response
from pydantic import ValidationError

from serving.api import messages
from serving.api.bodies import read_body
from serving.api.routes.answers import REFUSED, as_response, json_answer, json_body, unprocessable
from serving.deployments.endpoint import Endpoint

_REFUSED: Final[dict[int | str, dict[str, Any]]] = {
    404: {"model": messages.Problem, "description": "No such version, or none to go back to"},
    409: {"model": messages.Problem, "description": "The bundle is altered, incompatible, worse, or does not run"},
    503: {"model": messages.Problem, "description": "The registry cannot be read or written now"},
}
_MAX_BODY_BYTES: Final = 64 << 10

Force = Annotated[bool, Query(description="take it although it is worse, or failed on some requests")]


def add_models(api: FastAPI, endpoint: Endpoint) -> None:
    """Add the routes that change which model answers."""

    @api.get("/v1/models", tags=["models"], response_model=messages.ModelsResponse)
    async def models() -> Response:
        """List versions, channels, and what is being served."""
        return json_answer(await endpoint.models.describe())

    @api.post(
        "/v1/models/{version}:promote", tags=["models"], response_model=messages.ModelsResponse, responses=_REFUSED
    )
    async def promote(version: str, force: Force = False) -> Response:
        """Make a version champion, after proving that it runs and is not worse. No request is dropped meanwhile."""
        return json_answer(await endpoint.promotion.promote(version, force=force))

    @api.post(
        "/v1/models/{version}:canary",
        tags=["models"],
        response_model=messages.ModelsResponse,
        responses=REFUSED | _REFUSED,
        openapi_extra=json_body(messages.CanaryRequest),
    )
    async def start_canary(version: str, request: Request, force: Force = False) -> Response:
        """Let a version answer a share of the viewers; a viewer stays where he is while the share grows."""
        try:
            asked = messages.CanaryRequest.model_validate_json(await read_body(request, max_bytes=_MAX_BODY_BYTES))
        except ValidationError as error:
            return as_response(unprocessable(error))
        return json_answer(await endpoint.promotion.start_canary(version, share=asked.share, force=force))

    @api.delete(
        "/v1/models/{version}:canary", tags=["models"], response_model=messages.ModelsResponse, responses=_REFUSED
    )
    async def stop_canary(version: str) -> Response:
        """Give all viewers back to the champion."""
        return json_answer(await endpoint.promotion.stop_canary(version))

    @api.post("/v1/models:rollback", tags=["models"], response_model=messages.ModelsResponse, responses=_REFUSED)
    async def rollback() -> Response:
        """Go back to the champion before this one, and end a canary."""
        return json_answer(await endpoint.promotion.roll_back())
