"""The routes: HTTP in, one call to the endpoint, HTTP out."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline

from serving.api.metrics import CountRequests, Metrics
from serving.api.routes.answers import answer_errors
from serving.api.routes.events import add_events
from serving.api.routes.models import add_models
from serving.api.routes.operations import add_operations
from serving.api.routes.recommendations import add_recommendations
from serving.api.routes.rooms import add_rooms
from serving.api.routes.users import add_users
from serving.deployments.endpoint import Endpoint


def create_api(endpoint: Endpoint, metrics: Metrics | None = None) -> FastAPI:
    """Put an endpoint behind HTTP, open to everybody: ``RoomRecApplication`` asks the guard, then comes here.

    As an application of its own it starts and closes the endpoint with itself.

    Args:
        endpoint: An opened endpoint.
        metrics: Where requests are counted; a process has one.

    Returns:
        The ASGI application.
    """
    metrics = metrics or Metrics()
    endpoint.slate_log.on_lost = metrics.slates_lost.inc

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await endpoint.start()
        yield
        await endpoint.close()

    api = FastAPIOffline(
        title="RoomRec",
        summary="Live-commerce recommendations: the right room and the right product, now",
        lifespan=lifespan,
        openapi_tags=[
            {"name": name} for name in ("recommendations", "events", "rooms", "models", "users", "operations")
        ],
    )
    api.add_middleware(CountRequests, metrics=metrics)
    answer_errors(api)
    add_recommendations(api, endpoint, metrics)
    add_events(api, endpoint, metrics)
    add_models(api, endpoint)
    add_rooms(api, endpoint)
    add_users(api, endpoint)
    add_operations(api, endpoint, metrics)
    return api
