"""Versions and channels."""

from typing import Any, Final

from fastapi import FastAPI, Response

from serving.api import messages
from serving.api.routes.answers import json_answer
from serving.deployments.endpoint import Endpoint

_MODEL_REFUSED: Final[dict[int | str, dict[str, Any]]] = {
    404: {"model": messages.Problem, "description": "No such version, or none to go back to"},
    409: {"model": messages.Problem, "description": "The bundle is altered, incompatible or does not run"},
}


def add_models(api: FastAPI, endpoint: Endpoint) -> None:
    """Add the routes that change which model answers."""

    @api.get("/v1/models", tags=["models"], response_model=messages.ModelsResponse)
    async def models() -> Response:
        """List versions, channels, and what is being served."""
        return json_answer(endpoint.models())

    @api.post(
        "/v1/models/{version}:promote",
        tags=["models"],
        response_model=messages.ModelsResponse,
        responses=_MODEL_REFUSED,
    )
    async def promote(version: str) -> Response:
        """Make a version champion, after proving that it runs. No request is dropped meanwhile."""
        return json_answer(await endpoint.promote(version))

    @api.post("/v1/models:rollback", tags=["models"], response_model=messages.ModelsResponse, responses=_MODEL_REFUSED)
    async def rollback() -> Response:
        """Go back to the champion before this one."""
        return json_answer(await endpoint.rollback())
