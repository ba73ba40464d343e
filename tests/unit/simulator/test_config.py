"""A world that cannot be is refused with the name of what is wrong."""

import pytest

from roomrec.simulator.config import WorldConfig


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_viewers": 0}, "num_viewers is 0, expected at least 1"),
        ({"num_days": -1}, "num_days is -1"),
        ({"start_at_ms": 1_767_225_600_001}, "start_at_ms is 1767225600001, expected midnight UTC"),
        ({"num_categories": 13}, "num_categories is 13, expected 4 to 12"),
        ({"duplicate_rate": -0.1}, "duplicate_rate is -0.1, expected 0 to 1"),
        ({"views_per_session": 0.5}, "views_per_session is 0.5"),
        ({"stock_per_product": 0}, "stock_per_product is 0"),
    ],
)
def test_impossible_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        WorldConfig(**settings)


def test_the_end_is_the_midnight_after_the_last_day():
    assert WorldConfig(start_at_ms=86_400_000, num_days=2).end_at_ms == 259_200_000
