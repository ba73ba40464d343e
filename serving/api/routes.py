"""The routes: HTTP in, one call to the endpoint, HTTP out."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import orjson
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi_offline import FastAPIOffline
from pydantic import ValidationError

from roomrec.errors import BundleError, RegistryError, StateError
from roomrec.events.schema import MAX_ID_LENGTH
from serving.api import messages
from serving.api.bodies import read_body, split_events
from serving.api.metrics import CONTENT_TYPE, CountRequests, Metrics
from serving.deployments.endpoint import Endpoint
from serving.deployments.recommender import Query

_RETRY_AFTER: Final = {"Retry-After": "1"}
_SHORT_BODY: Final = 64 << 10
_REFUSED: Final[dict[int | str, dict[str, Any]]] = {
    413: {"model": messages.Problem, "description": "The body is too long"},
    422: {"model": messages.FieldProblem, "description": "A field is wrong; detail names it"},
    503: {"model": messages.Problem, "description": "State or log cannot be used now; try again"},
}
_MODEL_REFUSED: Final[dict[int | str, dict[str, Any]]] = {
    404: {"model": messages.Problem, "description": "No such version, or none to go back to"},
    409: {"model": messages.Problem, "description": "The bundle is altered, incompatible or does not run"},
}


def create_api(endpoint: Endpoint) -> FastAPI:
    """Put an endpoint behind HTTP. The application starts and closes the endpoint with itself.

    Args:
        endpoint: An opened endpoint.

    Returns:
        The ASGI application.
    """
    metrics = Metrics()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await endpoint.start()
        yield
        await endpoint.close()

    api = FastAPIOffline(
        title="RoomRec",
        summary="Live-commerce recommendations: the right room and the right product, now",
        lifespan=lifespan,
        openapi_tags=[{"name": name} for name in ("recommendations", "events", "models", "users", "operations")],
    )
    api.add_middleware(CountRequests, metrics=metrics)
    _answer_errors(api)
    _add_recommendations(api, endpoint, metrics)
    _add_events(api, endpoint, metrics)
    _add_models(api, endpoint)
    _add_users(api, endpoint)
    _add_operations(api, endpoint, metrics)
    return api


def _add_recommendations(api: FastAPI, endpoint: Endpoint, metrics: Metrics) -> None:
    @api.post(
        "/v1/recommendations",
        tags=["recommendations"],
        response_model=messages.RecommendationResponse,
        responses=_REFUSED,
        openapi_extra=_json_body(messages.RecommendationRequest.model_json_schema()),
    )
    async def recommend(request: Request) -> Response:
        """Recommend live rooms to a viewer, or products of one room; never what has ended or is sold out."""
        body = await read_body(request, max_bytes=_SHORT_BODY)
        try:
            asked = messages.RecommendationRequest.model_validate_json(body)
        except ValidationError as error:
            return _unprocessable(error)
        if asked.k > endpoint.settings.max_k:
            return _wrong_field("k", f"k must be at most {endpoint.settings.max_k}")
        slate = endpoint.recommend(Query(asked.user_id, asked.surface, asked.k, asked.room_id))
        metrics.degraded.labels(slate.degraded or "none").inc()
        return _json(slate._asdict())


def _add_events(api: FastAPI, endpoint: Endpoint, metrics: Metrics) -> None:
    events = {"type": "array", "items": {"type": "object"}}
    line = {"type": "string", "description": "one JSON object a line"}

    @api.post(
        "/v1/events",
        tags=["events"],
        response_model=messages.EventsResponse,
        responses=_REFUSED,
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": events}, "application/x-ndjson": {"schema": line}},
            }
        },
    )
    async def post_events(request: Request) -> Response:
        """Report what viewers and rooms did. An accepted event is durable, and the next request sees it.

        Sending an event again is safe: the same event_id twice is one event.
        """
        body = await read_body(request, max_bytes=endpoint.settings.max_body_bytes)
        try:
            items = split_events(body, max_events=endpoint.settings.max_events)
        except ValueError as error:
            return _wrong_field("body", str(error))
        posted = await endpoint.post(items)
        counts = dict.fromkeys(("accepted", "duplicate", "rejected"), 0)
        for each in posted:
            counts[each.status] += 1
        for status, count in counts.items():
            metrics.events.labels(status).inc(count)
        return _json(counts | {"results": [each._asdict() for each in posted]})


def _add_models(api: FastAPI, endpoint: Endpoint) -> None:
    @api.get("/v1/models", tags=["models"], response_model=messages.ModelsResponse)
    async def models() -> Response:
        """List versions, channels, and what is being served."""
        return _json(endpoint.models())

    @api.post(
        "/v1/models/{version}:promote",
        tags=["models"],
        response_model=messages.ModelsResponse,
        responses=_MODEL_REFUSED,
    )
    async def promote(version: str) -> Response:
        """Make a version champion, after proving that it runs. No request is dropped meanwhile."""
        return _json(await endpoint.promote(version))

    @api.post("/v1/models:rollback", tags=["models"], response_model=messages.ModelsResponse, responses=_MODEL_REFUSED)
    async def rollback() -> Response:
        """Go back to the champion before this one."""
        return _json(await endpoint.rollback())


def _add_users(api: FastAPI, endpoint: Endpoint) -> None:
    @api.get(
        "/v1/users/{user_id:path}",  # an id may hold a slash
        tags=["users"],
        response_model=messages.UserResponse,
        responses={404: {"model": messages.Problem, "description": "Nothing is known of this viewer"}},
    )
    async def user(user_id: str) -> Response:
        """Return what the state knows of a viewer."""
        known = endpoint.user(user_id) if 0 < len(user_id) <= MAX_ID_LENGTH else None
        if known is None:
            raise HTTPException(404, "nothing is known of this viewer")
        return _json(known)

    @api.delete("/v1/users/{user_id:path}", tags=["users"], response_model=messages.ErasureReceipt, responses=_REFUSED)
    async def erase_user(user_id: str) -> Response:
        """Remove a viewer from state and event log, and return a receipt."""
        if not 0 < len(user_id) <= MAX_ID_LENGTH:
            return _wrong_field("user_id", f"user_id must have 1 to {MAX_ID_LENGTH} characters", where="path")
        return _json(await endpoint.erase_user(user_id))


def _add_operations(api: FastAPI, endpoint: Endpoint, metrics: Metrics) -> None:
    @api.get("/healthz", tags=["operations"])
    async def healthz() -> dict[str, str]:
        """Say that the process is alive."""
        return {"status": "alive"}

    @api.get("/readyz", tags=["operations"], responses={503: {"model": messages.Problem}})
    async def readyz() -> dict[str, str]:
        """Say whether this replica should get requests."""
        if (reason := endpoint.not_ready_because()) is not None:
            raise HTTPException(503, reason)
        return {"status": "ready"}

    @api.get("/metrics", tags=["operations"], response_class=Response)
    async def render_metrics() -> Response:
        """Numbers for Prometheus, of all replicas of this machine."""
        metrics.live_rooms.set(len(endpoint.catalogue.rooms))
        metrics.load_failures.set(0 if endpoint.load_failure is None else 1)
        return Response(metrics.render(), media_type=CONTENT_TYPE)


def _answer_errors(api: FastAPI) -> None:
    @api.exception_handler(StateError)
    async def unavailable(_: Request, error: StateError) -> Response:
        return _json({"detail": str(error)}, status=503, headers=_RETRY_AFTER)

    @api.exception_handler(RegistryError)
    async def missing(_: Request, error: RegistryError) -> Response:
        return _json({"detail": str(error)}, status=404)

    @api.exception_handler(BundleError)
    async def refused(_: Request, error: BundleError) -> Response:
        return _json({"detail": str(error)}, status=409)

    @api.exception_handler(RequestValidationError)
    async def unprocessable(_: Request, error: RequestValidationError) -> Response:
        named = [{"loc": each["loc"], "msg": each["msg"], "type": each["type"]} for each in error.errors()]
        return _json({"detail": named}, status=422)


def _unprocessable(error: ValidationError) -> Response:
    """Name the wrong fields without repeating what was sent."""
    named = [
        {"loc": ["body", *each["loc"]], "msg": each["msg"], "type": each["type"]}
        for each in error.errors(include_url=False, include_context=False, include_input=False)
    ]
    return _json({"detail": named}, status=422)


def _wrong_field(name: str, message: str, *, where: str = "body") -> Response:
    loc = [where] if name == where else [where, name]
    return _json({"detail": [{"loc": loc, "msg": message, "type": "value_error"}]}, status=422)


def _json(content: Any, *, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(
        orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY),
        status_code=status,
        headers=headers,
        media_type="application/json",
    )


def _json_body(schema: dict[str, Any]) -> dict[str, Any]:
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}
