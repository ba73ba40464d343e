"""Histories and items as tensors."""

import numpy as np
import pytest

from roomrec.batches.collate import collate_histories, collate_items, lay_out, places_in_batch, round_up_length
from roomrec.ids import PAD_INDEX
from roomrec.sequences.dataset import ItemTable
from roomrec.sequences.histories import Histories
from roomrec.sequences.history import History, history_inputs


@pytest.fixture
def histories() -> Histories:
    # user 5 has three events, user 9 has two
    return Histories(
        user_index=np.array([5, 9]),
        offsets=np.array([0, 3, 5]),
        occurred_at_ms=np.array([0, 1_000, 61_000, 500, 500]),
        event_type=np.array([2, 3, 2, 10, 10], dtype=np.int8),
        streamer_index=np.array([4, 4, 6, 0, 0], dtype=np.int32),
        product_index=np.array([0, 0, 0, 7, 8], dtype=np.int32),
        watch_time_bucket=np.array([0, 5, 0, 0, 0], dtype=np.int8),
        item_index=np.array([20, 20, 21, 7, 8], dtype=np.int32),
        room_item_index=np.array([20, 20, 21, 0, 0], dtype=np.int32),
        target=np.array([True, False, True, True, True]),
        split=np.zeros(5, dtype=np.int8),
    )


def test_histories_are_padded_on_the_left(histories):
    batch = collate_histories(histories, row=np.array([1, 0]), start=np.array([3, 0]), stop=np.array([5, 3]))
    assert batch.event_type.tolist() == [[0, 10, 10], [2, 3, 2]]
    assert batch.streamer_index.tolist() == [[0, 0, 0], [4, 4, 6]]
    assert batch.product_index.tolist() == [[0, 7, 8], [0, 0, 0]]
    assert batch.watch_time_bucket.tolist() == [[0, 0, 0], [0, 5, 0]]
    assert batch.time_gap_bucket.tolist() == [[0, 0, 1], [0, 2, 6]]
    assert batch.age_s.tolist() == [[0, 0, 0], [61, 60, 0]]
    assert batch.user_index.tolist() == [9, 5]


def test_or_on_the_right(histories):
    rows = {"row": np.array([1, 0]), "start": np.array([3, 0]), "stop": np.array([5, 3])}
    batch = collate_histories(histories, **rows, pad_right_to=4)
    assert batch.event_type.tolist() == [[10, 10, 0, 0], [2, 3, 2, 0]]
    assert batch.age_s.tolist() == [[0, 0, 0, 0], [61, 60, 0, 0]]


def test_gaps_are_counted_inside_the_cut(histories):
    batch = collate_histories(histories, row=np.array([0]), start=np.array([1]), stop=np.array([3]))
    assert batch.time_gap_bucket.tolist() == [[0, 6]]


def test_an_empty_history_is_one_place_of_padding(histories):
    batch = collate_histories(histories, row=np.array([0]), start=np.array([0]), stop=np.array([0]))
    assert batch.event_type.tolist() == [[PAD_INDEX]]


def test_one_user_equals_the_function_serving_calls(histories):
    columns = ("occurred_at_ms", "event_type", "streamer_index", "product_index", "watch_time_bucket")
    everything = {name: getattr(histories, name).astype(np.int64) for name in columns}
    history = History(user=np.array([5, 5, 5, 9, 9]), source_row=np.arange(5), **everything)
    expected = history_inputs(history, start=0, stop=3, max_length=2)
    batch = collate_histories(histories, row=np.array([0]), start=np.array([1]), stop=np.array([3]))
    for name, values in expected.items():
        assert getattr(batch, name)[0].tolist() == values.tolist(), name


def test_places_after_padding():
    stretches = lay_out(np.array([0, 3]), np.array([3, 5]))
    assert places_in_batch(stretches).tolist() == [0, 1, 2, 4, 5]
    assert places_in_batch(stretches, pad_right_to=4).tolist() == [0, 1, 2, 4, 5]
    assert places_in_batch(stretches, pad_right_to=3).tolist() == [0, 1, 2, 3, 4]


def test_few_lengths_occur_and_none_above_the_models():
    lengths = {round_up_length(length, at_most=200) for length in range(1, 201)}
    assert sorted(lengths) == [
        *range(1, 16),
        *range(16, 32, 2),
        *range(32, 64, 4),
        *range(64, 128, 8),
        *range(128, 193, 16),
        200,
    ]
    assert all(length <= round_up_length(length, at_most=200) <= length * 9 / 8 for length in range(1, 201))


def test_items_keep_their_order_and_bags_lose_common_padding():
    table = ItemTable(
        kind=np.array([0, 0, 2, 1], dtype=np.int8),
        popularity_index=np.arange(4),
        start_at_ms=np.full(4, -1),
        streamer=np.array([0, 0, 0, 5]),
        product=np.array([[0, 0, 0], [0, 0, 0], [2, 0, 0], [2, 3, 0]]),
        category=np.array([0, 0, 1, 2]),
        title=np.array([[0, 0], [0, 0], [0, 0], [0, 0]]),
        price_band=np.array([0, 0, 9, 0]),
        attributes=np.array([[0, 0, 0], [0, 0, 0], [4, 0, 0], [2, 3, 0]]),
    )
    batch = collate_items(table, np.array([3, 2]))
    assert batch.streamer.tolist() == [5, 0]
    assert batch.product.tolist() == [[2, 3], [2, 0]]
    assert batch.title.tolist() == [[0], [0]]
    assert batch.price_band.tolist() == [0, 9]
    assert batch.attributes.tolist() == [[2, 3], [4, 0]]
