"""Popularity worked out by hand."""

import pytest

from roomrec.policy.fallback import add_enter, decayed_count, popular_now, rank_by_popularity


@pytest.mark.parametrize(("at_ms", "expected"), [(0, 4.0), (600_000, 2.0), (1_800_000, 0.5), (-600_000, 4.0)])
def test_an_enter_counts_half_after_ten_minutes(at_ms: int, expected: float) -> None:
    assert decayed_count(4.0, counted_at_ms=0, at_ms=at_ms) == expected


def test_enters_may_come_in_any_order() -> None:
    forwards = add_enter(*[0.0], counted_at_ms=0, at_ms=0)
    forwards = add_enter(forwards[0], counted_at_ms=forwards[1], at_ms=600_000)
    backwards = add_enter(0.0, counted_at_ms=0, at_ms=600_000)
    backwards = add_enter(backwards[0], counted_at_ms=backwards[1], at_ms=0)
    assert forwards == backwards == (1.5, 600_000)


def test_now_beats_before_and_ids_break_ties() -> None:
    ranked = rank_by_popularity(["d", "c", "b", "a"], now={"c": 1.0}, before={"b": 1e9})
    assert [item for item, _ in ranked] == ["c", "b", "a", "d"]


def test_nothing_is_popular_in_an_empty_evening() -> None:
    assert popular_now({}) == frozenset()
    assert popular_now({"a": 2.9}) == frozenset()
    assert popular_now({f"r{room}": 5.0 for room in range(5)}) == {"r2", "r3", "r4"}
    assert popular_now({f"r{room}": 5.0 for room in range(5)}, num_entered=40) == {"r1", "r2", "r3", "r4"}


def test_a_tenth_of_many_rooms_is_popular() -> None:
    crowded = {f"r{room:03}": 10.0 + room for room in range(100)}
    assert sorted(popular_now(crowded)) == [f"r{room:03}" for room in range(90, 100)]
