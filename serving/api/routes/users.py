"""What is known of a viewer, and its removal."""

from typing import Annotated

from fastapi import FastAPI, HTTPException, Query, Response
from starlette.convertors import Convertor, register_url_convertor

from roomrec.events.schema import MAX_ID_LENGTH
from serving.api import messages
from serving.api.routes.answers import REFUSED, as_response, json_answer, wrong_field
from serving.deployments.endpoint import Endpoint


class AnyText(Convertor[str]):
    """The rest of a path, whatever it holds: an id may have slashes and line feeds, and must be erasable."""

    regex = "(?s:.*)"

    def convert(self, value: str) -> str:
        """Return it as it stands."""
        return value

    def to_string(self, value: str) -> str:
        """Return it as it stands."""
        return value


def add_users(api: FastAPI, endpoint: Endpoint) -> None:
    """Add the routes about one viewer."""
    register_url_convertor("any_text", AnyText())

    @api.get(
        "/v1/users/{user_id:any_text}",
        tags=["users"],
        response_model=messages.UserResponse,
        responses={404: {"model": messages.Problem, "description": "Nothing is known of this viewer"}},
    )
    async def user(user_id: str) -> Response:
        """Return what the state knows of a viewer."""
        known = endpoint.user(user_id) if 0 < len(user_id) <= MAX_ID_LENGTH else None
        if known is None:
            raise HTTPException(404, "nothing is known of this viewer")
        return json_answer(known)

    @api.delete(
        "/v1/users/{user_id:any_text}", tags=["users"], response_model=messages.ErasureReceipt, responses=REFUSED
    )
    async def erase_user(user_id: str) -> Response:
        """Remove a viewer from event log, state and exports, leave them out of training, and return a receipt."""
        if not 0 < len(user_id) <= MAX_ID_LENGTH:
            return as_response(
                wrong_field("user_id", f"user_id must have 1 to {MAX_ID_LENGTH} characters", where="path")
            )
        return json_answer(await endpoint.erase_user(user_id))

    @api.get("/v1/erasures", tags=["users"], response_model=messages.ErasuresResponse, responses=REFUSED)
    async def erasures(limit: Annotated[int, Query(ge=1, le=1000)] = 100) -> Response:
        """List the receipts of the newest erasures; they name nobody."""
        return json_answer({"erasures": endpoint.erasures(limit)})
