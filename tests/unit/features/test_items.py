"""Facts about items to encoder inputs."""

from roomrec.features.items import ItemFacts, item_inputs
from roomrec.features.spec import FeatureSpec
from roomrec.features.vocabulary import Vocabulary

VOCABULARY = Vocabulary(
    {
        "streamer": ["mia"],
        "product": ["silk", "wool"],
        "category": ["scarves"],
        "attribute": ["soft", "brand:northwind", "winter"],
    }
)
SIZES = {
    "num_users": 2,
    "num_streamers": 3,
    "num_products": 4,
    "max_products": 2,
    "title_length": 3,
    "max_attributes": 2,
}


def test_rooms_and_products_share_one_shape():
    spec = FeatureSpec(**SIZES, num_categories=3, num_title_tokens=4096, num_price_bands=34)
    room = ItemFacts("mia", ["wool", "new", "silk"], "scarves", "Winter sale", None)
    product = ItemFacts(None, ["silk"], "hats", None, 100)
    inputs = item_inputs([room, product], vocabulary=VOCABULARY, spec=spec)
    assert inputs["streamer"].tolist() == [2, 0]
    assert inputs["product"].tolist() == [[3, 1], [2, 0]]
    assert inputs["category"].tolist() == [2, 1]
    assert (inputs["title"] > 1).tolist() == [[True, True, False], [False] * 3]
    assert inputs["price_band"].tolist() == [0, 7]


def test_a_feature_the_model_lacks_is_all_padding():
    spec = FeatureSpec(**SIZES)
    room = ItemFacts("tom", ["wool"], "scarves", "Winter sale", 5)
    inputs = item_inputs([room], vocabulary=VOCABULARY, spec=spec)
    assert inputs["streamer"].tolist() == [1]
    assert inputs["category"].tolist() == [0]
    assert inputs["title"].tolist() == [[0, 0, 0]]
    assert inputs["price_band"].tolist() == [0]


def test_no_items_keep_their_shapes():
    inputs = item_inputs([], vocabulary=VOCABULARY, spec=FeatureSpec(**SIZES))
    assert {name: column.shape for name, column in inputs.items()} == {
        "streamer": (0,),
        "product": (0, 2),
        "category": (0,),
        "title": (0, 3),
        "price_band": (0,),
        "attributes": (0, 2),
    }


def test_attributes_are_a_bag_of_the_first_few():
    spec = FeatureSpec(**SIZES, num_attributes=5)
    facts = ["winter|soft", "winter|winter| brand:northwind |soft", "new", "", None]
    items = [ItemFacts(None, ["silk"], None, None, None, attributes) for attributes in facts]
    inputs = item_inputs(items, vocabulary=VOCABULARY, spec=spec)
    assert inputs["attributes"].tolist() == [[4, 2], [4, 3], [1, 0], [0, 0], [0, 0]]
    inputs = item_inputs(items, vocabulary=VOCABULARY, spec=FeatureSpec(**SIZES))
    assert inputs["attributes"].tolist() == [[0, 0]] * 5
