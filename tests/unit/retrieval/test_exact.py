"""A small index against answers worked out by hand."""

import time

import numpy as np
import pytest

from roomrec.retrieval.exact import LiveIndex, best_scores


def vectors(*rows: tuple[float, ...]) -> np.ndarray:
    return np.array(rows, dtype=np.float32)


def full_index() -> LiveIndex:
    index = LiveIndex(embedding_dim=2)
    index.put(["a", "b", "c", "d"], vectors((1, 0), (0, 1), (1, 1), (-1, 0)))
    return index


def test_search_orders_by_dot_product() -> None:
    hits = full_index().search(np.array([2, 1], dtype=np.float32), k=3)
    assert hits.ids == ["c", "a", "b"]
    assert hits.scores.tolist() == [3.0, 2.0, 1.0]


@pytest.mark.parametrize(("k", "expected"), [(0, []), (1, ["c"]), (4, ["c", "a", "b", "d"]), (9, ["c", "a", "b", "d"])])
def test_search_returns_at_most_k(k: int, expected: list[str]) -> None:
    assert full_index().search(np.array([2, 1], dtype=np.float32), k=k).ids == expected


def test_equal_scores_are_ordered_by_id_also_at_the_cut() -> None:
    index = LiveIndex(embedding_dim=1)
    index.put(["z", "m", "a"], vectors((1,), (1,), (1,)))
    assert index.search(np.array([1], dtype=np.float32), k=2).ids == ["a", "m"]


@pytest.mark.parametrize(("gone", "expected"), [("a", ["c", "b", "d"]), ("d", ["c", "a", "b"]), ("c", ["a", "b", "d"])])
def test_what_is_removed_is_not_found_and_the_rest_is(gone: str, expected: list[str]) -> None:
    index = full_index()
    assert index.remove(gone)
    assert gone not in index
    assert len(index) == 3
    assert index.search(np.array([2, 1], dtype=np.float32), k=9).ids == expected


def test_removing_what_is_not_there_says_so() -> None:
    assert not full_index().remove("nobody")


def test_putting_again_replaces_the_vector() -> None:
    index = full_index()
    index.put(["d"], vectors((5, 5)))
    assert len(index) == 4
    assert index.search(np.array([2, 1], dtype=np.float32), k=1).ids == ["d"]


def test_removed_ids_can_come_back() -> None:
    index = full_index()
    index.remove("a")
    index.put(["a"], vectors((9, 9)))
    assert index.search(np.array([1, 1], dtype=np.float32), k=1).ids == ["a"]


def test_it_grows_beyond_its_first_capacity() -> None:
    index = LiveIndex(embedding_dim=1)
    index.put([f"{row:04}" for row in range(1000)], np.arange(1000, dtype=np.float32)[:, None])
    for row in range(500, 1000):
        index.remove(f"{row:04}")
    assert index.search(np.array([1], dtype=np.float32), k=2).ids == ["0499", "0498"]


def test_an_empty_index_finds_nothing() -> None:
    assert LiveIndex(embedding_dim=3).search(np.zeros(3, dtype=np.float32), k=5).ids == []


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_vectors_that_are_not_finite_are_refused(number: float) -> None:
    with pytest.raises(ValueError, match="not finite"):
        full_index().put(["e"], vectors((1, number)))


def test_wrong_shapes_are_named() -> None:
    with pytest.raises(ValueError, match=r"vectors has shape \(1, 3\), expected \(1, 2\)"):
        full_index().put(["e"], vectors((1, 2, 3)))
    with pytest.raises(ValueError, match=r"query has shape \(3,\), expected \(2,\)"):
        full_index().search(np.zeros(3, dtype=np.float32), k=1)
    with pytest.raises(ValueError, match="k must be at least 0, received -1"):
        full_index().search(np.zeros(2, dtype=np.float32), k=-1)
    with pytest.raises(ValueError, match="embedding_dim must be at least 1, received 0"):
        LiveIndex(embedding_dim=0)


def test_best_scores_of_nothing_is_nothing() -> None:
    assert best_scores([], np.empty(0, dtype=np.float32), k=3).ids == []


def test_of_many_equal_scores_the_first_ids_are_kept_without_sorting_them_all() -> None:
    ids = [f"{(row * 7_919) % 100_003:06}" for row in range(100_003)]
    scores = np.zeros(len(ids), dtype=np.float32)
    scores[ids.index("077777")] = 1
    started = time.perf_counter()
    found = best_scores(ids, scores, k=3)
    assert time.perf_counter() - started < 0.1  # sorting them takes several times as long
    assert found.ids == ["077777", "000000", "000001"]
    assert found.scores.tolist() == [1, 0, 0]
