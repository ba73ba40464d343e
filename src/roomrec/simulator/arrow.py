"""Number columns to Arrow in the contract's schema: ids, nulls and contexts."""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from roomrec.events.schema import EVENT_SCHEMA, EVENT_TYPES
from roomrec.simulator.exposure import NUM_VIEWER_CONTEXTS, SURFACES
from roomrec.simulator.mess import Deliveries
from roomrec.simulator.population import Population
from roomrec.simulator.rows import NONE, by_viewer
from roomrec.simulator.schedule import NO_PRODUCT, Rooms
from roomrec.simulator.streamers import styles
from roomrec.simulator.words import CATEGORY_WORDS, DEVICES, REGIONS

CATEGORY_NAMES: Final = tuple(CATEGORY_WORDS)
"""Category number to its name."""


def user_id(number: int) -> str:
    """Return the external id of a viewer."""
    return f"u{number:07d}"


def streamer_id(number: int) -> str:
    """Return the external id of a streamer."""
    return f"s{number:05d}"


def product_id(number: int) -> str:
    """Return the external id of a product."""
    return f"p{number:06d}"


def room_id(day: int, streamer: int) -> str:
    """Return the external id of the room of a streamer on a day."""
    return f"r{day:04d}-{streamer:05d}"


def parse_id(text: str, letter: str) -> int:
    """Return the number in an external id, or raise ``ValueError``."""
    if text[:1] != letter or not text[1:].isdecimal():
        raise ValueError(f"{text!r} is not an id of this world, expected {letter!r} and digits")
    return int(text[1:])


def parse_room_id(text: str) -> tuple[int, int]:
    """Return day and streamer in the external id of a room, or raise ``ValueError``."""
    day, dash, streamer = text[1:].partition("-")
    if text[:1] != "r" or not (dash and day.isdecimal() and streamer.isdecimal()):
        raise ValueError(f"{text!r} is not an id of a room of this world, expected 'r', day, '-' and streamer")
    return int(day), int(streamer)


def contexts(population: Population, rooms: Rooms) -> pa.Array:
    """Return all contexts of a day by number: viewers', then rooms', then listings'."""
    maps: list[Mapping[str, str] | None] = [
        {"surface": surface, "device": device, "region": region}
        for surface in SURFACES
        for device in DEVICES
        for region in REGIONS
    ]
    if len(maps) != NUM_VIEWER_CONTEXTS:
        raise ValueError(f"there are {len(maps)} viewer contexts, behaviour.py counts {NUM_VIEWER_CONTEXTS}")
    regions = population.streamers.region[rooms.streamer].tolist()
    maps += [
        {"category": CATEGORY_NAMES[category], "title": title, "attributes": attributes, "region": REGIONS[region]}
        for category, title, attributes, region in zip(
            rooms.category.tolist(), rooms.title, styles(rooms.latent), regions, strict=True
        )
    ]
    products = population.products
    listed = rooms.product.ravel()
    for product, attributes in zip(listed.tolist(), styles(products.latent[listed]), strict=True):
        if product == NO_PRODUCT:
            maps.append(None)
        else:
            category, title = CATEGORY_NAMES[products.category[product]], products.title[product]
            maps.append({"category": category, "title": title, "attributes": attributes})
    return pa.array(
        [None if entry is None else list(entry.items()) for entry in maps], type=EVENT_SCHEMA.field("context").type
    )


class EventEncoder:
    """Turns the deliveries of any day into tables in ``EVENT_SCHEMA``.

    Args:
        population: Whose numbers become ids.
    """

    def __init__(self, population: Population) -> None:
        self._population = population
        self._user_ids = _ids("u", 7, len(population.viewers.joined_day))
        self._streamer_ids = _ids("s", 5, len(population.streamers.joined_day))
        self._product_ids = _ids("p", 6, len(population.products.joined_day))

    def encode(self, deliveries: Deliveries, rooms: Rooms, day_contexts: pa.Array) -> pa.Table:
        """Encode deliveries.

        Args:
            deliveries: Of one day.
            rooms: The rooms of that day.
            day_contexts: From ``contexts`` of that day.

        Returns:
            The events in the order of the deliveries.
        """
        rows = deliveries.rows
        room_ids = pa.array([room_id(rooms.day, streamer) for streamer in rooms.streamer.tolist()], pa.string())
        prefix = f"{self._population.config.seed}-{rooms.day:04d}-"
        types = pa.DictionaryArray.from_arrays(pa.array(rows.event_type - 1, pa.int8()), pa.array(EVENT_TYPES))
        requests = _numbered("q" + prefix, rows.request, 7)
        columns = [
            pc.if_else(
                pa.array(by_viewer(rows)),
                _numbered("v" + prefix, deliveries.number, 8),
                _numbered("r" + prefix, deliveries.number, 8),
            ),
            types,
            pa.array(rows.at_ms),
            pa.array(deliveries.received_ms),
            _take(self._user_ids, rows.user),
            _take(self._streamer_ids, rows.streamer),
            _take(room_ids, rows.room),
            _take(self._product_ids, rows.product),
            _nullable(rows.watch_time_ms),
            _nullable(rows.amount_cents),
            _nullable(rows.quantity),
            _nullable(rows.stock),
            requests,
            _nullable(rows.position, pa.int32()),
            pa.array(rows.propensity, pa.float32(), mask=np.isnan(rows.propensity)),
            _take(day_contexts, rows.context),
        ]
        return pa.table(columns, schema=EVENT_SCHEMA)

    def encode_fields(self, deliveries: Deliveries, rooms: Rooms, day_contexts: pa.Array) -> list[dict[str, Any]]:
        """Encode deliveries as ``encode`` does, but as the fields a frontend would post.

        Returns:
            Events without their nulls and without ``received_at_ms``.
        """
        events = []
        for row in self.encode(deliveries, rooms, day_contexts).to_pylist():
            fields = {name: value for name, value in row.items() if value is not None and name != "received_at_ms"}
            if "context" in fields:
                fields["context"] = dict(fields["context"])
            events.append(fields)
        return events


def _ids(letter: str, width: int, count: int) -> pa.Array:
    return _numbered(letter, np.arange(count), width)


def _numbered(prefix: str, numbers: npt.NDArray[np.integer], width: int) -> pa.Array:
    """Prefix and zero-padded number, null where the number is NONE."""
    digits = pc.utf8_lpad(_nullable(numbers).cast(pa.string()), width, "0")
    return pc.binary_join_element_wise(pa.scalar(prefix), digits, "")


def _nullable(values: npt.NDArray[np.integer], kind: pa.DataType | None = None) -> pa.Array:
    return pa.array(values, kind or pa.int64(), mask=values == NONE)


def _take(values: pa.Array, numbers: npt.NDArray[np.integer]) -> pa.Array:
    return values.take(_nullable(numbers))
