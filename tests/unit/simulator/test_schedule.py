"""A day's rooms keep the rules the rest relies on."""

import numpy as np
import pytest

from roomrec.simulator.config import DAY_MS
from roomrec.simulator.schedule import NO_PRODUCT, pin_times
from roomrec.simulator.streamers import styles

HOUR_MS = 3_600_000


@pytest.fixture(params=[0, 3, 40], ids=["first day", "last day", "long after the log"])
def rooms(request, tiny_world):
    return tiny_world.rooms(request.param)


def test_rooms_last_one_to_five_hours_and_end_the_same_day(rooms, tiny_world):
    day_start = tiny_world.config.start_at_ms + rooms.day * DAY_MS
    assert np.all(rooms.start_ms >= day_start + 8 * HOUR_MS)
    assert np.all(rooms.end_ms < day_start + DAY_MS)
    assert np.all(rooms.end_ms - rooms.start_ms >= HOUR_MS)
    assert np.all(rooms.end_ms - rooms.start_ms <= 5 * HOUR_MS)
    assert len(set(rooms.streamer.tolist())) == len(rooms.streamer) > 5


def test_several_products_are_listed_in_the_first_minute_and_more_later(rooms):
    real = rooms.product != NO_PRODUCT
    after = rooms.listed_ms - rooms.start_ms[:, None]
    early = np.sum(real & (after < 60_000), axis=1)
    assert np.all(early >= 5)
    assert np.any(real & (after > 600_000))
    assert np.all(rooms.listed_ms[real] < rooms.unlisted_ms[real])
    assert np.all((rooms.unlisted_ms <= rooms.end_ms[:, None])[real])


def test_a_room_lists_its_streamers_products_once_each_and_none_from_the_future(rooms, tiny_world):
    products = tiny_world.population.products
    for room, listed in enumerate(rooms.product):
        listed = listed[listed != NO_PRODUCT]
        assert set(products.streamer[listed].tolist()) == {rooms.streamer[room]}
        assert len(set(listed.tolist())) == len(listed)
        assert np.all(products.joined_day[listed] <= rooms.day)


def test_what_is_pinned_is_on_the_list(rooms):
    for room, period in np.argwhere(rooms.pinned >= 0).tolist():
        place, at_ms = rooms.pinned[room, period], pin_times(rooms)[room, period]
        assert rooms.listed_ms[room, place] <= at_ms < rooms.unlisted_ms[room, place]
    assert np.mean(rooms.pinned >= 0) > 0.3


def test_titles_are_words_of_the_category(rooms, tiny_world):
    from roomrec.simulator.words import CATEGORY_WORDS

    words = list(CATEGORY_WORDS.values())
    for title, category in zip(rooms.title, rooms.category.tolist(), strict=True):
        assert set(title.split()[:3]) <= set(words[category])


def test_styles_say_more_of_a_taste_than_the_category_does(tiny_world):
    products = tiny_world.population.products
    tags = [set(text.split("|")) for text in styles(products.latent)]
    assert {len(each) for each in tags} == {3}
    shared = np.array([[len(one & other) for other in tags[:200]] for one in tags[:200]])
    likeness = products.latent[:200] @ products.latent[:200].T
    alike = products.category[:200, None] == products.category[:200]
    apart = ~np.eye(200, dtype=bool)
    assert likeness[alike & apart & (shared >= 2)].mean() > likeness[alike & apart & (shared == 0)].mean() + 0.1
