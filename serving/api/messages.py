"""What goes over HTTP, as the OpenAPI page shows it."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from roomrec.events.schema import MAX_ID_LENGTH

ExternalId = Annotated[str, Field(min_length=1, max_length=MAX_ID_LENGTH)]


class RecommendationRequest(BaseModel):
    """Ask for rooms, or for products of one room."""

    model_config = ConfigDict(strict=True, json_schema_extra={"examples": [{"user_id": "u1", "k": 5}]})

    user_id: ExternalId
    surface: Literal["room_feed", "room_products"] = "room_feed"
    room_id: ExternalId | None = Field(
        default=None, validate_default=True, description="the room, for surface room_products"
    )
    k: int = Field(default=10, ge=1, description="most items wanted; the endpoint has a limit of its own")
    context: dict[str, str | int | float | bool | None] | None = Field(
        default=None, description="facts of the request: device, region"
    )

    @field_validator("room_id")
    @classmethod
    def _room_products_need_a_room(cls, room_id: str | None, others: ValidationInfo) -> str | None:
        if room_id is None and others.data.get("surface") == "room_products":
            raise ValueError("room_id is needed for surface room_products")
        return room_id


class Reason(BaseModel):
    """Why an item is shown; given only if it is true."""

    code: str
    text: str


class Product(BaseModel):
    """A product that can be bought in the room now."""

    product_id: str
    category: str | None
    title: str | None
    price_cents: int | None
    stock: int | None
    score: float
    reasons: list[Reason]


class Item(BaseModel):
    """A live room with some of its products; for surface room_products a product, with its room."""

    room_id: str
    streamer_id: str
    product_id: str | None = Field(default=None, description="only for surface room_products")
    category: str | None
    title: str | None
    price_cents: int | None = Field(default=None, description="only for surface room_products")
    stock: int | None = Field(default=None, description="only for surface room_products")
    score: float
    position: int = Field(description="0 is on top")
    propensity: float = Field(description="probability with which this item was shown here")
    reasons: list[Reason]
    products: list[Product]


class RecommendationResponse(BaseModel):
    """A slate."""

    request_id: str
    model_version: str | None
    variant: str
    degraded: str | None = Field(
        description="null, or why the slate is less than it could be: nothing_live, room_not_live, no_model, "
        "model_failed, unknown_user, empty_history, sequence_only, fewer_than_k"
    )
    step: Literal["full", "sequence_only", "popular_in_category", "popular"] = Field(
        description="how it was made, from the best to the last resort"
    )
    items: list[Item]


class EventResult(BaseModel):
    """What became of one event."""

    event_id: str | None
    status: Literal["accepted", "duplicate", "rejected"]
    reason: str | None = Field(description="which rule a rejected event breaks")


class EventsResponse(BaseModel):
    """What became of each event of a body, in its order."""

    accepted: int
    duplicate: int
    rejected: int
    results: list[EventResult]


class CanaryRequest(BaseModel):
    """Let a version answer a share of the viewers."""

    model_config = ConfigDict(strict=True, json_schema_extra={"examples": [{"share": 0.05}]})

    share: float = Field(ge=0, le=1, description="of viewers; 0 only compares the version with the champion")


class ModelsResponse(BaseModel):
    """Versions, channels, and what the replica that answers runs."""

    versions: list[str]
    champion: str | None
    challenger: str | None
    share: float = Field(description="of viewers, whom the challenger answers")
    serving: dict[str, Any] | None = Field(description="the champion as this replica runs it")
    canary: dict[str, Any] | None = Field(description="the challenger, while it answers a share of the viewers")
    shadow: dict[str, Any] | None = Field(description="how the challenger did beside the champion, unseen")
    previous: dict[str, Any] | None = Field(description="the version kept to answer when the champion fails")
    answering: str | None = Field(description="the version that answers by default, now")
    load_failure: str | None = Field(description="why this replica does not run the champion")
    challenger_failure: str | None = Field(description="why this replica does not run the challenger")
    registry_failure: str | None = Field(description="why this replica cannot read the registry; it goes on as it is")
    replica: str = Field(description="host and process that answered")
    comparison: str | None = Field(default=None, description="of a version's metrics with the champion's")


class Moment(BaseModel):
    """Events of the last whole seconds."""

    window_s: int
    enters: int
    comments: int
    orders: int


class Room(BaseModel):
    """A live room, and what goes on there."""

    room_id: str
    streamer_id: str | None
    category: str | None
    title: str | None
    started_at_ms: int
    on_air_product_id: str | None
    num_products: int = Field(description="that can be bought there now")
    moment: Moment


class RoomsResponse(BaseModel):
    """Some of the rooms that are live."""

    total: int
    offset: int
    rooms: list[Room]


class RoomProduct(BaseModel):
    """A product that can be bought in a room."""

    product_id: str
    category: str | None
    title: str | None
    price_cents: int | None
    stock: int | None


class RoomResponse(Room):
    """A live room with the first of its products, by id."""

    products: list[RoomProduct]


class UserResponse(BaseModel):
    """What the state knows of a viewer."""

    user_id: str
    followed_streamers: list[str]
    not_interested: dict[str, list[str]] = Field(description="product_ids, room_ids, streamer_ids not shown any more")
    history: list[dict[str, Any]]


class ErasureReceipt(BaseModel):
    """What was removed of a viewer, and where; and what was not."""

    user_id: str = Field(description="as it was asked for; the receipt that is kept has the hash only")
    user_hash: str = Field(description="what the list of erased users and the kept receipt know of the viewer")
    erased_at_ms: int
    removed: dict[str, dict[str, int]]
    left_out_of_training: str = Field(description="the list that preprocessing reads to leave the viewer out")
    not_removed: list[str]


class KeptReceipt(BaseModel):
    """A receipt as it is kept."""

    user_hash: str
    erased_at_ms: int
    removed: dict[str, dict[str, int]]
    left_out_of_training: str
    not_removed: list[str]


class ErasuresResponse(BaseModel):
    """Receipts, newest first."""

    erasures: list[KeptReceipt]


class Problem(BaseModel):
    """Why a request was refused, in a sentence."""

    detail: str


class FieldProblem(BaseModel):
    """Which field of a request is wrong, and why."""

    detail: list[dict[str, Any]]
