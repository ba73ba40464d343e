"""A request for a slate."""

from typing import Any, Final

from fastapi import FastAPI, Request, Response
from pydantic import ValidationError

from serving.api import messages
from serving.api.bodies import read_body
from serving.api.metrics import Metrics
from serving.api.routes.answers import REFUSED, json_answer, unprocessable, wrong_field
from serving.deployments.endpoint import Endpoint
from serving.deployments.recommender import Query

_SHORT_BODY: Final = 64 << 10


def add_recommendations(api: FastAPI, endpoint: Endpoint, metrics: Metrics) -> None:
    """Add the route that recommends."""

    @api.post(
        "/v1/recommendations",
        tags=["recommendations"],
        response_model=messages.RecommendationResponse,
        responses=REFUSED,
        openapi_extra=_json_body(messages.RecommendationRequest.model_json_schema()),
    )
    async def recommend(request: Request) -> Response:
        """Recommend live rooms to a viewer, or products of one room; never what has ended or is sold out."""
        body = await read_body(request, max_bytes=_SHORT_BODY)
        try:
            asked = messages.RecommendationRequest.model_validate_json(body)
        except ValidationError as error:
            return unprocessable(error)
        if asked.k > endpoint.settings.max_k:
            return wrong_field("k", f"k must be at most {endpoint.settings.max_k}")
        slate = endpoint.recommend(Query(asked.user_id, asked.surface, asked.k, asked.room_id))
        metrics.degraded.labels(slate.degraded or "none").inc()
        return json_answer(slate._asdict())


def _json_body(schema: dict[str, Any]) -> dict[str, Any]:
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}
