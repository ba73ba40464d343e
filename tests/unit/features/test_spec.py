"""What the encoders take in, and what an older version said of it."""

import pytest

from roomrec.errors import FeatureError
from roomrec.features.spec import FeatureSpec

SIZES = {"num_users": 4, "num_streamers": 5, "num_products": 6}


def test_what_was_written_before_there_were_attributes_has_none():
    older = SIZES | {"num_categories": 3, "num_title_tokens": 0, "num_price_bands": 0}
    spec = FeatureSpec.from_dict(older | {"max_products": 1, "title_length": 1})
    assert (spec.num_attributes, spec.max_attributes) == (0, 8)


def test_reading_brings_back_what_was_written():
    spec = FeatureSpec(**SIZES, num_attributes=9, max_attributes=3)
    assert FeatureSpec.from_dict(spec.to_dict()) == spec
    assert spec.to_dict()["num_attributes"] == 9


@pytest.mark.parametrize("name", ["num_categories", "num_title_tokens", "num_price_bands", "num_attributes"])
def test_an_item_is_known_by_more_than_its_ids(name):
    assert not FeatureSpec(**SIZES).has_side_features
    assert FeatureSpec(**SIZES, **{name: 3}).has_side_features


@pytest.mark.parametrize("value", [-1, 2.5, None])
def test_sizes_are_whole_numbers(value):
    with pytest.raises(FeatureError, match="num_attributes must be a whole number of at least 0"):
        FeatureSpec(**SIZES, num_attributes=value)


def test_ids_alone_leave_no_side_feature():
    spec = FeatureSpec(num_users=3, num_streamers=4, num_products=5, num_categories=6, num_title_tokens=7,
                       num_price_bands=8, num_attributes=9, max_products=2)  # fmt: skip
    ids = spec.ids_only()
    assert spec.has_side_features
    assert not ids.has_side_features
    assert (ids.num_users, ids.num_streamers, ids.num_products, ids.max_products) == (3, 4, 5, 2)
