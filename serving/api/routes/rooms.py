"""What is live, and what goes on there."""

from typing import Annotated

from fastapi import FastAPI, HTTPException, Query, Response

from roomrec.events.schema import MAX_ID_LENGTH
from serving.api import messages
from serving.api.routes.answers import json_answer
from serving.deployments.endpoint import Endpoint

_Limit = Annotated[int, Query(ge=1, le=1_000)]


def add_rooms(api: FastAPI, endpoint: Endpoint) -> None:
    """Add the routes about live rooms."""

    @api.get("/v1/rooms", tags=["rooms"], response_model=messages.RoomsResponse)
    async def rooms(limit: _Limit = 100, offset: Annotated[int, Query(ge=0, le=10**9)] = 0) -> Response:
        """List the rooms that are live, by id."""
        return json_answer(endpoint.rooms(limit=limit, offset=offset))

    @api.get(
        "/v1/rooms/{room_id:path}",  # an id may hold a slash
        tags=["rooms"],
        response_model=messages.RoomResponse,
        responses={404: {"model": messages.Problem, "description": "The room is not live"}},
    )
    async def room(room_id: str, limit: _Limit = 100) -> Response:
        """Return what goes on in a live room: its moment, the product on air, and up to ``limit`` of its products."""
        known = endpoint.room(room_id, limit=limit) if 0 < len(room_id) <= MAX_ID_LENGTH else None
        if known is None:
            raise HTTPException(404, "the room is not live")
        return json_answer(known)
