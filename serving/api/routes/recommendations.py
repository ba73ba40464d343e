"""A request for a slate."""

from typing import Final

import orjson
from fastapi import FastAPI, Request, Response
from pydantic import ValidationError

from serving.api import messages
from serving.api.bodies import read_body
from serving.api.metrics import Metrics
from serving.api.routes.answers import REFUSED, as_response, json_body, unprocessable, wrong_field
from serving.deployments.endpoint import Endpoint
from serving.deployments.recommender import Query
from serving.http.messages import Answer

MAX_BODY_BYTES: Final = 64 << 10
"""Longest body of a request for a slate."""

_validate = messages.RecommendationRequest.__pydantic_validator__.validate_json


def recommend(body: bytes, endpoint: Endpoint, metrics: Metrics, *, is_hurried: bool = False) -> Answer:
    """Answer a request for a slate.

    Args:
        body: A ``RecommendationRequest`` as JSON.
        endpoint: What answers.
        metrics: Where slates are counted.
        is_hurried: Whether to leave out what takes longest: too many wait.

    Raises:
        StateError: If the state cannot be read.
    """
    try:
        asked = _validate(body)
    except ValidationError as error:
        return unprocessable(error)
    if asked.k > endpoint.settings.max_k:
        return wrong_field("k", f"k must be at most {endpoint.settings.max_k}")
    slate = endpoint.recommend(Query(asked.user_id, asked.surface, asked.k, asked.room_id), is_hurried=is_hurried)
    metrics.count_slate(slate.degraded, slate.step)
    return Answer(200, orjson.dumps(slate._asdict()))


def add_recommendations(api: FastAPI, endpoint: Endpoint, metrics: Metrics) -> None:
    """Add the route that recommends."""

    @api.post(
        "/v1/recommendations",
        name="recommend",
        description="Recommend live rooms to a viewer, or products of one room; never what has ended or is sold out.",
        tags=["recommendations"],
        response_model=messages.RecommendationResponse,
        responses=REFUSED,
        openapi_extra=json_body(messages.RecommendationRequest),
    )
    async def route(request: Request) -> Response:
        return as_response(recommend(await read_body(request, max_bytes=MAX_BODY_BYTES), endpoint, metrics))
