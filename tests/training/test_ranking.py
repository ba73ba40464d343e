"""From queries to ranks: who is a candidate, who is removed, what counts as a repeat."""

import json
from pathlib import Path

import numpy as np
import pytest

from roomrec.features.as_of import PRODUCT_KIND, ROOM_KIND, AvailabilityTimeline
from roomrec.metrics import hit_rate
from roomrec.sequences.dataset import ProcessedDataset
from roomrec.sequences.queries import Queries, select_queries
from tests.worlds import DAY_START_MS, HOUR_MS, write_shop
from training.evaluation.candidates import Candidates
from training.evaluation.item_knn import ItemKnn
from training.evaluation.popularity import Popularity, RecentPopularity, train_counts
from training.evaluation.ranking import best_first, rank_queries
from training.evaluation.segments import is_repeat


class ByIndex:
    """The higher the index the better."""

    name = "by_index"

    def prepare(self, queries):
        return self

    def matrix(self, candidates):
        return np.tile(candidates.astype(np.float32), (1024, 1))

    def row(self, place, candidates):
        return candidates.astype(np.float32)


class AllAlike(ByIndex):
    """No opinion."""

    name = "all_alike"

    def matrix(self, candidates):
        return np.zeros((1024, len(candidates)), dtype=np.float32)

    def row(self, place, candidates):
        return np.zeros(len(candidates), dtype=np.float32)


def shop(path: Path, users: list[list[int]], *, num_products: int, **summary: object) -> ProcessedDataset:
    """Products are items 2, 3, ...; what is 0 in ``users`` is item 2."""
    folder = write_shop(path, users, num_products=num_products)
    file = folder / "summary.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | summary))
    return ProcessedDataset.open(folder)


def live(tmp_path: Path, queries: dict[str, list[int]]) -> tuple[ProcessedDataset, Queries]:
    """Rooms 6 and 7, products 2 to 5. Room 6 sells 2 and 3, room 7 sells 3 and 4; product 3 leaves room 6 at 500."""
    base = shop(tmp_path / "live", [[0, 1, 2, 3]], num_products=6)
    intervals = [(6, 6, 0, 1000), (7, 7, 400, 2000), (2, 6, 0, 1000), (3, 6, 0, 500), (3, 7, 400, 2000)]
    intervals.append((4, 7, 400, 2000))
    dataset = ProcessedDataset(
        summary=base.summary | {"knows_availability": True},
        vocabulary_file=base.vocabulary_file,
        items=base.items._replace(
            kind=np.array([0, 0, *[PRODUCT_KIND] * 4, *[ROOM_KIND] * 2], dtype=np.int8),
            streamer=np.array([0, 0, 0, 0, 0, 0, 2, 3]),
        ),
        item_rows=base.item_rows,
        availability=AvailabilityTimeline(*(np.array(column) for column in zip(*intervals, strict=True))),
        histories=base.histories,
    )
    count = len(queries["at_ms"])
    asked = Queries(
        row=np.zeros(count, dtype=np.int64),
        stop=np.full(count, 2),
        at_ms=np.array(queries["at_ms"]),
        target_offsets=np.arange(count + 1),
        targets=np.array(queries["targets"]),
        room_item_index=np.array(queries["rooms"]),
        kind=dataset.items.kind[queries["targets"]],
    )
    return dataset, asked


@pytest.mark.parametrize(
    ("at_ms", "target", "room", "surface", "expected"),
    [
        (100, 6, 0, "room_feed", [6]),
        (450, 6, 0, "room_feed", [6, 7]),
        (1500, 7, 0, "room_feed", [7]),
        (450, 2, 6, "room_products", [2, 3]),
        (600, 2, 6, "room_products", [2]),
        (600, 3, 7, "room_products", [3, 4]),
        # what was chosen was there, whatever the log says
        (1500, 6, 0, "room_feed", [6, 7]),
        (600, 3, 6, "room_products", [2, 3]),
        (5000, 6, 0, "room_feed", [6]),
        # a product chosen outside any room competes with the whole catalogue
        (450, 2, 0, "catalogue", [2, 3, 4, 5]),
    ],
)
def test_candidates_are_what_was_available_then_and_there(tmp_path, at_ms, target, room, surface, expected):
    dataset, queries = live(tmp_path, {"at_ms": [at_ms], "targets": [target], "rooms": [room]})
    candidates = Candidates(dataset, queries)
    (group,) = candidates.groups
    assert group.surface == surface
    assert (candidates.of(0) if group.shared is None else group.shared).tolist() == expected
    ranking = rank_queries(dataset, queries, ByIndex(), num_shown=3, candidates=candidates)
    assert ranking.num_candidates.tolist() == [len(expected)]
    assert ranking.shown[0, : len(expected)].tolist() == expected[::-1][:3]
    assert np.flatnonzero(ranking.candidate_seen).tolist() == expected


def test_targets_that_were_not_available_are_counted(tmp_path):
    dataset, queries = live(tmp_path, {"at_ms": [450, 1500, 5000], "targets": [6, 6, 7], "rooms": [0, 0, 0]})
    assert Candidates(dataset, queries).unavailable_targets == 2


def test_surfaces_are_kept_apart_and_results_stay_in_order(tmp_path):
    asked = {"at_ms": [1500, 450, 450], "targets": [7, 2, 6], "rooms": [0, 6, 0]}
    dataset, queries = live(tmp_path, asked)
    candidates = Candidates(dataset, queries)
    assert {group.surface: group.queries.tolist() for group in candidates.groups} == {
        "room_feed": [2, 0],
        "room_products": [1],
    }
    ranking = rank_queries(dataset, queries, ByIndex(), num_shown=0, candidates=candidates)
    assert ranking.ranks.tolist() == [1, 2, 2]


def test_nobody_gains_by_having_no_opinion(tmp_path, live_dataset):
    for dataset in (ProcessedDataset.open(live_dataset), shop(tmp_path / "s", [[0, 1, 2]] * 3, num_products=5)):
        queries = dataset.queries("test")
        ranking = rank_queries(dataset, queries, AllAlike(), num_shown=0)
        assert ranking.ranks.tolist() == ranking.num_candidates.tolist()


def test_what_was_seen_is_removed_where_the_protocol_says_so(tmp_path):
    users = [[0, 4, 1, 2], [3, 2, 4, 3]]
    kept = shop(tmp_path / "kept", users, num_products=5)
    # by index from the top: items 6, 5, 4, 3, 2; the targets are items 4 and 5
    assert rank_queries(kept, kept.queries("test"), ByIndex(), num_shown=0).ranks.tolist() == [3, 2]
    removed = shop(tmp_path / "removed", users, num_products=5, filter_seen=True)
    ranking = rank_queries(removed, removed.queries("test"), ByIndex(), num_shown=5)
    # user 0 has seen 2, 6, 3: left are 5, 4. User 1 has seen 5, 4, 6, but chose 5 again: it stays
    assert ranking.ranks.tolist() == [2, 1]
    assert ranking.shown.tolist() == [[5, 4, 0, 0, 0], [5, 3, 2, 0, 0]]


def test_a_log_without_order_ranks_all_targets_of_a_user_together(tmp_path):
    dataset = shop(tmp_path / "bag", [[0, 1, 2, 3], [4, 0, 3]], num_products=5, ordered=False, filter_seen=True)
    queries = select_queries(dataset.queries("train"), np.array([0, 1]))
    # nothing comes before the train split; users have 2 and 1 targets in it
    ranking = rank_queries(dataset, queries, ByIndex(), num_shown=0)
    assert queries.target_offsets.tolist() == [0, 2, 3]
    assert queries.targets.tolist() == [2, 3, 6]
    assert ranking.ranks.tolist() == [5, 4, 1]
    assert hit_rate(ranking.ranks, queries.target_offsets, k=4).tolist() == [1.0, 1.0]


def test_a_sample_is_fixed_and_whole(tmp_path):
    dataset = shop(tmp_path / "bag", [[0, 1, 2, 3], [4, 0, 3], [1, 2, 3, 0, 4]], num_products=5, ordered=False)
    queries = dataset.queries("train")
    assert dataset.queries("train", max_queries=3).row.tolist() == queries.row.tolist() == [0, 1, 2]
    some = dataset.queries("train", max_queries=2)
    again = dataset.queries("train", max_queries=2)
    assert some.row.tolist() == again.row.tolist() == sorted(some.row.tolist())
    assert len(some.targets) == some.target_offsets[-1]
    last = select_queries(queries, np.array([2, 0]))
    assert last.row.tolist() == [2, 0]
    assert last.target_offsets.tolist() == [0, 3, 5]
    assert last.targets.tolist() == [3, 4, 5, 2, 3]


@pytest.mark.parametrize(
    ("scores", "k", "places"),
    [
        ([0.1, 0.9, 0.5], 2, [1, 2]),
        ([0.1, 0.9, 0.5], 9, [1, 2, 0]),
        ([-np.inf, 0.9, np.nan], 3, [1]),
        ([], 3, []),
        ([0.3], 0, []),
    ],
)
def test_best_first(scores, k, places):
    assert best_first(np.array(scores, dtype=np.float32), k).tolist() == places


def test_popularity_counts_the_train_split(tmp_path):
    dataset = shop(tmp_path / "s", [[0, 0, 1, 2, 2], [1, 0, 2, 2]], num_products=4)
    assert train_counts(dataset).tolist() == [0, 0, 3, 2, 0, 0]
    scores = Popularity(dataset).prepare(dataset.queries("test"))
    assert scores.matrix(np.array([3, 2])).tolist() == [[2, 3], [2, 3]]
    assert scores.row(1, np.array([4, 2])).tolist() == [0, 3]


def test_recent_popularity_knows_the_past_only(tmp_path):
    # events at hours 0, 1, 2 for all users
    dataset = shop(tmp_path / "s", [[0, 1, 2], [0, 1, 1], [0, 3, 2]], num_products=4)
    recent = RecentPopularity(dataset, window_hours=1.5)
    counts = {hour: recent.counts_at(DAY_START_MS + int(hour * HOUR_MS))[2:].tolist() for hour in (0, 0.5, 1.1, 2.4)}
    assert counts == {0: [0, 0, 0, 0], 0.5: [3, 0, 0, 0], 1.1: [3, 2, 0, 1], 2.4: [0, 3, 2, 1]}


def test_item_knn_finds_what_goes_together(tmp_path):
    # 0 and 1 are bought together, 2 and 3 too; the last two of each are held out
    users = [[0, 1, 4, 4]] * 4 + [[2, 3, 4, 4]] * 4 + [[0, 5, 4, 1], [2, 5, 4, 3]]
    dataset = shop(tmp_path / "s", users, num_products=6, filter_seen=True)
    queries = dataset.queries("test")
    ranking = rank_queries(dataset, queries, ItemKnn(dataset), num_shown=1)
    assert ranking.ranks[-2:].tolist() == [1, 1]
    assert ranking.shown[-2:, 0].tolist() == [3, 5]


def test_a_repeat_is_a_known_streamer_or_the_same_item(tmp_path):
    asked = {"at_ms": [450, 450, 450, 450], "targets": [6, 7, 2, 4], "rooms": [0, 0, 6, 7]}
    dataset, queries = live(tmp_path, asked)
    known = dataset.histories._replace(streamer_index=np.array([3, 1, 1, 1], dtype=np.int32))
    dataset.histories = known
    # the history is two events: products 2 and 3 with streamers 3 and an unknown one; room 7 is streamer 3's
    assert is_repeat(dataset, queries).tolist() == [False, True, True, False]


def test_unknown_ids_are_compared_by_item(tmp_path):
    dataset, queries = live(tmp_path, {"at_ms": [450, 450], "targets": [6, 7], "rooms": [0, 0]})
    dataset.items = dataset.items._replace(streamer=np.array([0, 0, 0, 0, 0, 0, 1, 1]))
    dataset.histories = dataset.histories._replace(
        streamer_index=np.array([1, 1, 1, 1], dtype=np.int32), item_index=np.array([7, 0, 0, 0], dtype=np.int32)
    )
    assert is_repeat(dataset, queries).tolist() == [False, True]
