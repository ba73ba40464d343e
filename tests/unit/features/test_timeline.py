import numpy as np
import pytest

from roomrec.features.timeline import ListingEvents, StockEvents, product_intervals

P, Q = 4, 9
HERE, THERE = 0, 1
ON, OFF = True, False

# listings (product, room, instant, listed), stocks (product, instant, pieces), expected (product, room, from, to)
# room HERE is live 100..200, room THERE 150..300
TABLES = {
    "listed until the room ends": ([(P, HERE, 120, ON)], [], [(P, HERE, 120, 200)]),
    "listed before the room starts": ([(P, HERE, 50, ON)], [], [(P, HERE, 100, 200)]),
    "taken off": ([(P, HERE, 120, ON), (P, HERE, 130, OFF)], [], [(P, HERE, 120, 130)]),
    "and on again": (
        [(P, HERE, 120, ON), (P, HERE, 130, OFF), (P, HERE, 140, ON)],
        [],
        [(P, HERE, 120, 130), (P, HERE, 140, 200)],
    ),
    "listed twice is listed once": ([(P, HERE, 120, ON), (P, HERE, 140, ON)], [], [(P, HERE, 120, 200)]),
    "sold out and back": (
        [(P, HERE, 120, ON)],
        [(P, 130, 0), (P, 160, 5)],
        [(P, HERE, 120, 130), (P, HERE, 160, 200)],
    ),
    "sold out from the beginning": ([(P, HERE, 120, ON)], [(P, 90, 0)], []),
    "some left is left": ([(P, HERE, 120, ON)], [(P, 130, 3), (P, 140, 1)], [(P, HERE, 120, 200)]),
    "one stock for two rooms": (
        [(P, HERE, 120, ON), (P, THERE, 160, ON)],
        [(P, 170, 0)],
        [(P, HERE, 120, 170), (P, THERE, 160, 170)],
    ),
    "another product's stock says nothing": ([(P, HERE, 120, ON)], [(Q, 130, 0)], [(P, HERE, 120, 200)]),
    "listed after the end": ([(P, HERE, 200, ON)], [], []),
    "never listed": ([], [(P, 130, 3)], []),
}


def column(rows, place, dtype=np.int64):
    return np.array([row[place] for row in rows], dtype=dtype)


@pytest.mark.parametrize("name", TABLES)
def test_intervals(name):
    listings, stocks, expected = TABLES[name]
    found = product_intervals(
        ListingEvents(column(listings, 0), column(listings, 1), column(listings, 2), column(listings, 3, np.bool_)),
        StockEvents(column(stocks, 0), column(stocks, 1), column(stocks, 2)),
        room_from_ms=np.array([100, 150]),
        room_to_ms=np.array([200, 300]),
    )
    assert [tuple(int(value) for value in row) for row in zip(*found, strict=True)] == expected
