"""Reports of what viewers and rooms did."""

from fastapi import FastAPI, Request, Response

from serving.api import messages
from serving.api.bodies import read_body, split_events
from serving.api.metrics import Metrics
from serving.api.routes.answers import REFUSED, json_answer, wrong_field
from serving.deployments.endpoint import Endpoint


def add_events(api: FastAPI, endpoint: Endpoint, metrics: Metrics) -> None:
    """Add the route that takes events."""
    events = {"type": "array", "items": {"type": "object"}}
    line = {"type": "string", "description": "one JSON object a line"}

    @api.post(
        "/v1/events",
        tags=["events"],
        response_model=messages.EventsResponse,
        responses=REFUSED,
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
            return wrong_field("body", str(error))
        posted = await endpoint.post(items)
        counts = dict.fromkeys(("accepted", "duplicate", "rejected"), 0)
        for each in posted:
            counts[each.status] += 1
        for status, count in counts.items():
            metrics.events.labels(status).inc(count)
        return json_answer(counts | {"results": [each._asdict() for each in posted]})
