"""SASRec on events."""

import pytest
import torch

from roomrec.batches.batch import HistoryBatch
from roomrec.features.spec import FeatureSpec
from roomrec.models.product_catalogue import with_looked_up_products
from roomrec.models.sasrec import SASRec
from tests.blocks import BLOCKS, random_products

SPEC = FeatureSpec(
    num_users=5, num_streamers=6, num_products=9, num_categories=4, num_title_tokens=30, num_attributes=7
)


def sasrec(*, spec: FeatureSpec = SPEC, **changes) -> SASRec:
    torch.manual_seed(0)
    sizes = {
        "embedding_dim": 8,
        "max_sequence_length": 6,
        "num_blocks": 2,
        "block": BLOCKS["pre_norm"],
        "dropout_rate": 0.5,
        "id_dropout_rate": 0.0,
    }
    return SASRec(spec=spec, **(sizes | changes))


def history(left: int = 0, right: int = 0) -> HistoryBatch:
    def pad(values: list[int]) -> torch.Tensor:
        return torch.tensor([[0] * left + values + [0] * right])

    return HistoryBatch(
        pad([2, 3, 8]),
        pad([2, 2, 0]),
        pad([0, 0, 5]),
        pad([0, 4, 9]),
        pad([0, 7, 0]),
        pad([400, 300, 0]),
        torch.tensor([2]),
    )


@pytest.mark.parametrize("block", sorted(BLOCKS))
@pytest.mark.parametrize("padding", [0, 3])
def test_the_user_encoder_is_the_newest_place_of_all(block, padding):
    model = sasrec(block=BLOCKS[block]).eval()
    randomise(model)
    everything = model.user_encoder.encode_all(history(right=padding))
    torch.testing.assert_close(model.user_encoder(*history()), everything[:, 2])


@pytest.mark.parametrize("block", sorted(BLOCKS))
@pytest.mark.parametrize("padding", [1, 3])
def test_padding_changes_nothing(block, padding):
    model = sasrec(block=BLOCKS[block]).eval()
    randomise(model)
    torch.testing.assert_close(model.user_encoder(*history(padding)), model.user_encoder(*history()))


@pytest.mark.parametrize("block", sorted(BLOCKS))
def test_no_event_sees_a_later_one(block):
    model = sasrec(block=BLOCKS[block]).eval()
    randomise(model)
    later = list(history())
    later[1] = torch.tensor([[2, 2, 3]])
    torch.testing.assert_close(
        model.user_encoder.encode_all(HistoryBatch(*later))[:, :2], model.user_encoder.encode_all(history())[:, :2]
    )


def test_an_empty_history_gives_numbers():
    model = sasrec().eval()
    nothing = torch.zeros(2, 4, dtype=torch.long)
    vectors = model.user_encoder(*[nothing] * 6, torch.zeros(2, dtype=torch.long))
    assert torch.isfinite(vectors).all()


@pytest.mark.parametrize("block", sorted(BLOCKS))
def test_training_on_padded_batches_gives_finite_gradients(block):
    model = sasrec(block=BLOCKS[block]).train()
    model.user_encoder.encode_all(history(right=3)).sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("place", range(5))
def test_every_input_counts(place):
    model = sasrec().eval()
    columns = list(history()[:6])
    columns[place] = columns[place].clone()
    columns[place][0, -1] = 4
    assert not torch.allclose(model.user_encoder(*columns), model.user_encoder(*history()[:6]))


def test_hstu_knows_when_things_happened():
    model = sasrec(block=BLOCKS["hstu"]).eval()
    randomise(model)
    long_ago = history()._replace(age_s=torch.tensor([[400_000, 300_000, 0]]))
    assert not torch.allclose(model.user_encoder(*long_ago), model.user_encoder(*history()))


def test_a_product_in_the_history_has_the_vector_it_has_as_an_item():
    model = sasrec().eval()
    products = random_products(SPEC)
    model.describe_products(products)
    torch.testing.assert_close(model.user_encoder.products(torch.arange(9)), model.item_encoder(*products))


def test_looked_up_products_give_the_same_numbers():
    model = sasrec().eval()
    model.describe_products(random_products(SPEC))
    looked_up = with_looked_up_products(model.user_encoder)
    assert isinstance(looked_up.products, torch.nn.Embedding)
    torch.testing.assert_close(looked_up(*history()), model.user_encoder(*history()))


def test_what_products_are_like_is_saved_with_the_weights():
    model, loaded = sasrec().eval(), sasrec().eval()
    model.describe_products(random_products(SPEC))
    loaded.load_state_dict(model.state_dict())
    torch.testing.assert_close(loaded.user_encoder(*history()), model.user_encoder(*history()))


def test_products_must_be_all_there_are():
    with pytest.raises(ValueError, match="products has 8 rows of category, the spec 9 products"):
        sasrec().describe_products(type(random_products(SPEC))(*(column[:8] for column in random_products(SPEC))))


def randomise(model: SASRec) -> None:
    """Give weights that begin at zero, such as biases for distance and time, something to say."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.user_encoder.blocks.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.2)


def items(**changes) -> dict[str, torch.Tensor]:
    columns = {"streamer": [2], "product": [[3, 4, 0]], "category": [2], "title": [[5, 0]], "price_band": [0]}
    columns["attributes"] = [[2, 3, 6, 0]]
    return {name: torch.tensor(values) for name, values in (columns | changes).items()}


def test_an_item_is_the_sum_of_what_is_known():
    model = sasrec().eval()
    table = {name: embedding.weight for name, embedding in model.item_encoder.embeddings.tables.items()}
    expected = table["streamer"][2] + (table["product"][3] + table["product"][4]) / 2 + table["category"][2]
    expected = expected + table["title"][5]
    expected = expected + (table["attributes"][2] + table["attributes"][3] + table["attributes"][6]) / 3
    torch.testing.assert_close(model.item_encoder(**items())[0], expected)


def test_bags_mean_the_same_with_and_without_gradients():
    model = sasrec().eval()
    learning = model.item_encoder(**items())
    with torch.no_grad():
        torch.testing.assert_close(model.item_encoder(**items()), learning.detach())
    learning.sum().backward()
    gradient = model.item_encoder.embeddings.tables["attributes"].weight.grad
    assert gradient[:, 0].tolist() == pytest.approx([0, 0, 1 / 3, 1 / 3, 0, 0, 1 / 3])


def test_padding_and_unknown_ids_begin_at_zero():
    nothing = items(streamer=[1], product=[[1, 0, 0]], category=[0], title=[[0, 0]], attributes=[[1, 0]])
    assert sasrec().eval().item_encoder(**nothing).abs().sum() == 0


def test_features_the_log_lacks_get_no_table():
    model = sasrec(spec=FeatureSpec(num_users=2, num_streamers=0, num_products=9))
    assert set(model.item_encoder.embeddings.tables) == {"product"}


def test_tables_are_shared_by_both_sides():
    model = sasrec()
    assert model.user_encoder.embeddings is model.item_encoder.embeddings


def test_ids_are_dropped_in_training_only():
    model = sasrec(id_dropout_rate=1.0)
    known, unknown = items(category=[0], title=[[0, 0]]), items(streamer=[1], product=[[1, 1, 0]])
    unknown |= {"category": known["category"], "title": known["title"]}
    torch.testing.assert_close(model.train().item_encoder(**known), model.item_encoder(**unknown))
    assert not torch.allclose(model.eval().item_encoder(**known), model.item_encoder(**unknown))


def test_ids_are_kept_where_nothing_else_is_known():
    spec = FeatureSpec(num_users=2, num_streamers=6, num_products=9)
    assert sasrec(spec=spec, id_dropout_rate=0.5).item_encoder.embeddings.id_dropout_rate == 0.0
