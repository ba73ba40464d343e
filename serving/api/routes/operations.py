"""Health, readiness and numbers."""

from fastapi import FastAPI, HTTPException, Response

from serving.api import messages
from serving.api.metrics import CONTENT_TYPE, Metrics
from serving.deployments.endpoint import Endpoint


def add_operations(api: FastAPI, endpoint: Endpoint, metrics: Metrics) -> None:
    """Add the routes that operators and probes ask."""

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
        metrics.observe(endpoint)
        return Response(metrics.render(), media_type=CONTENT_TYPE)
