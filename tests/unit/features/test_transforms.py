"""Raw values to small integers."""

import numpy as np

from roomrec.features.transforms import (
    price_bands,
    split_attributes,
    time_gap_buckets,
    title_tokens,
    watch_time_buckets,
)


def test_time_gaps_double():
    seconds = np.array([0, 0, 1, 3, 7, 7 + 86_400, 7 + 86_400 + 10**12], dtype=np.int64)
    assert time_gap_buckets(seconds * 1000).tolist() == [0, 1, 2, 2, 3, 17, 33]
    assert time_gap_buckets(np.array([], dtype=np.int64)).tolist() == []
    assert time_gap_buckets(np.array([5])).tolist() == [0]


def test_watch_times_and_prices_have_a_bucket_for_unknown():
    assert watch_time_buckets(np.array([-1, 0, 999, 1_000, 2_999, 3_000, 10**12])).tolist() == [0, 1, 1, 2, 2, 3, 17]
    assert price_bands(np.array([-1, 0, 1, 100, 10**15])).tolist() == [0, 1, 2, 7, 33]


def test_titles_are_bags_of_words():
    assert title_tokens(None, title_length=2).tolist() == [0, 0]
    assert title_tokens("!!", title_length=2).tolist() == [0, 0]
    one, two = title_tokens("Red SILK", title_length=2)
    assert title_tokens("silk_red red", title_length=2).tolist() == [two, one]
    assert (title_tokens("丝巾 silk", title_length=4) > 1).tolist() == [True, True, True, False]
    assert title_tokens("a b c", title_length=2).shape == (2,)


def test_attributes_come_once_each_in_the_order_given():
    assert split_attributes(None) == split_attributes("") == split_attributes(" | |") == []
    assert split_attributes("silk") == ["silk"]
    assert split_attributes("b|a| b |丝 巾") == ["b", "a", "丝 巾"]
