"""Reports of what viewers and rooms did."""

import orjson
from fastapi import FastAPI, HTTPException, Request, Response

from serving.api import messages
from serving.api.bodies import decode_event, read_body, split_events
from serving.api.metrics import Metrics
from serving.api.routes.answers import REFUSED, as_response, wrong_field
from serving.deployments.endpoint import EVENTS_AT_ONCE, Endpoint
from serving.http.messages import Answer, problem


async def post_events(body: bytes, endpoint: Endpoint, metrics: Metrics, *, may_report_rooms: bool = True) -> Answer:
    """Answer a report of events.

    Args:
        body: A JSON array of events, one event, or NDJSON.
        endpoint: What stores them.
        metrics: Where they are counted.
        may_report_rooms: Whether events of rooms and products are taken as well.

    Raises:
        StateError: If they could not be stored; sending all of them again is safe.
    """
    items = []
    turns = endpoint.turns
    await turns.take()
    try:
        for part in split_events(body, max_events=endpoint.settings.max_events):
            items.append(decode_event(part))
            if len(items) % EVENTS_AT_ONCE == 0:  # a long body makes nobody wait
                await turns.take()
    except HTTPException as error:
        return problem(error.status_code, error.detail)
    except ValueError as error:
        return wrong_field("body", str(error))
    posted = await endpoint.post(items, may_report_rooms=may_report_rooms)
    counts = dict.fromkeys(("accepted", "duplicate", "rejected"), 0)
    results = []
    for first in range(0, len(posted), EVENTS_AT_ONCE):
        piece = posted[first : first + EVENTS_AT_ONCE]
        for each in piece:
            counts[each.status] += 1
        results.append(orjson.dumps([each._asdict() for each in piece])[1:-1])
        if first:
            await turns.take()
    for status, count in counts.items():
        metrics.events.labels(status).inc(count)
    return Answer(200, orjson.dumps(counts)[:-1] + b',"results":[' + b",".join(results) + b"]}")


def add_events(api: FastAPI, endpoint: Endpoint, metrics: Metrics) -> None:
    """Add the route that takes events."""
    events = {"type": "array", "items": {"type": "object"}}
    line = {"type": "string", "description": "one JSON object a line"}

    @api.post(
        "/v1/events",
        name="post_events",
        description="Report what viewers and rooms did. An accepted event is durable, and the next request sees it. "
        "Sending an event again is safe: the same event_id twice is one event.",
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
    async def route(request: Request) -> Response:
        body = await read_body(request, max_bytes=endpoint.settings.max_body_bytes)
        return as_response(await post_events(body, endpoint, metrics))
