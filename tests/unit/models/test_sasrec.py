"""SASRec on events."""

import pytest
import torch

from roomrec.batches.batch import HistoryBatch
from roomrec.features.spec import FeatureSpec
from roomrec.models.sasrec import SASRec

SPEC = FeatureSpec(
    num_users=5, num_streamers=6, num_products=9, num_categories=4, num_title_tokens=30, num_attributes=7
)


def sasrec(*, spec: FeatureSpec = SPEC, **changes) -> SASRec:
    torch.manual_seed(0)
    sizes = {
        "embedding_dim": 8,
        "max_sequence_length": 6,
        "num_blocks": 2,
        "num_heads": 2,
        "hidden_dim": 16,
        "dropout_rate": 0.5,
        "norm_first": True,
        "id_dropout_rate": 0.0,
    }
    return SASRec(spec=spec, **(sizes | changes))


def history(padding: int) -> HistoryBatch:
    def pad(values: list[int]) -> torch.Tensor:
        return torch.tensor([[0] * padding + values])

    return HistoryBatch(
        pad([2, 3, 8]), pad([2, 2, 0]), pad([0, 0, 5]), pad([0, 4, 9]), pad([0, 7, 0]), torch.tensor([2])
    )


@pytest.mark.parametrize("norm_first", [True, False])
def test_the_user_encoder_is_the_newest_place_of_all(norm_first):
    model = sasrec(norm_first=norm_first).eval()
    everything = model.user_encoder.encode_all(history(0))
    torch.testing.assert_close(model.user_encoder(*history(0)), everything[:, -1])


@pytest.mark.parametrize("padding", [1, 3])
def test_padding_changes_nothing(padding):
    model = sasrec().eval()
    torch.testing.assert_close(model.user_encoder(*history(padding)), model.user_encoder(*history(0)))


def test_an_empty_history_gives_numbers():
    model = sasrec().eval()
    nothing = torch.zeros(2, 4, dtype=torch.long)
    vectors = model.user_encoder(nothing, nothing, nothing, nothing, nothing, torch.zeros(2, dtype=torch.long))
    assert torch.isfinite(vectors).all()


def test_training_on_padded_batches_gives_finite_gradients():
    model = sasrec().train()
    model.user_encoder.encode_all(history(3)).sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("place", range(5))
def test_every_input_counts(place):
    model = sasrec().eval()
    columns = list(history(0)[:5])
    columns[place] = columns[place].clone()
    columns[place][0, -1] = 4
    assert not torch.allclose(model.user_encoder(*columns), model.user_encoder(*history(0)[:5]))


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
