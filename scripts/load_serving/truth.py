"""What must not be shown any more, and since when that is certain."""

from array import array
from typing import Any, Final

import msgspec

from scripts.load_serving.rooms import Change

EXAMPLES: Final = 5
"""Breaches told in full."""


class ShownProduct(msgspec.Struct, gc=False):
    """What is read of a product in an answer."""

    product_id: str


class ShownItem(msgspec.Struct, gc=False):
    """What is read of an item in an answer."""

    room_id: str
    streamer_id: str
    product_id: str | None = None
    propensity: float = 1.0
    products: list[ShownProduct] = []


class Slate(msgspec.Struct, gc=False):
    """What is read of an answer to a request for recommendations."""

    request_id: str
    degraded: str | None
    items: list[ShownItem]
    model_version: str | None = None


read_slate: Final = msgspec.json.Decoder(Slate).decode


class Truth:
    """Compares answers with what the endpoint has accepted.

    An item must not be in an answer whose request was sent later than the bound after the answer that accepted its end.
    Both instants are taken here: the acceptance is never noted too early nor the sending too late, so what counts as a
    breach is one. What may be shown again is free from the moment that this is sent.

    Args:
        bound_s: How long an answer may still show it.
    """

    def __init__(self, bound_s: float) -> None:
        self._bound_s = bound_s
        self._hidden: dict[str | tuple[str, str], float] = {}
        self.not_live_shown = 0
        """breaches"""
        self.examples: list[dict[str, Any]] = []
        self.checked = 0
        """answers compared"""
        self.staleness = array("d")
        """seconds between acceptance and sending, of items shown although their end had been accepted"""

    def sending(self, change: Change) -> None:
        """Take note that something may be shown again from now on."""
        if change.kind == "restocked":
            self._hidden.pop(f"product {change.product_id}", None)
        elif change.kind == "product_listed":
            self._hidden.pop((change.room_id, change.product_id or ""), None)

    def accepted(self, change: Change, at: float) -> None:
        """Take note that a change was accepted by an answer received then."""
        if change.kind == "room_end":
            self._hidden[f"room {change.room_id}"] = at
        elif change.kind == "sold_out":
            self._hidden[f"product {change.product_id}"] = at
        elif change.kind == "product_unlisted":
            self._hidden[change.room_id, change.product_id or ""] = at

    def check(self, slate: Slate, sent: float) -> None:
        """Compare one answer with what is true.

        Args:
            slate: The answer.
            sent: When its request was sent.
        """
        self.checked += 1
        hidden = self._hidden
        if not hidden:
            return
        for item in slate.items:
            room_id = item.room_id
            if (name := f"room {room_id}") in hidden:
                self._shown(name, hidden[name], slate, sent)
            products = [product.product_id for product in item.products]
            if item.product_id is not None:
                products.append(item.product_id)
            for product_id in products:
                if (name := f"product {product_id}") in hidden:
                    self._shown(name, hidden[name], slate, sent)
                if (room_id, product_id) in hidden:
                    self._shown(f"product {product_id} in room {room_id}", hidden[room_id, product_id], slate, sent)

    def _shown(self, name: str, since: float, slate: Slate, sent: float) -> None:
        late = sent - since
        if late <= 0:
            return
        self.staleness.append(late)
        if late > self._bound_s:
            self.not_live_shown += 1
            if len(self.examples) < EXAMPLES:
                said = {"shown": name, "request_id": slate.request_id, "ms_after_acceptance": round(late * 1000, 1)}
                self.examples.append(said)
