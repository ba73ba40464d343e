"""New events against what was kept of old ones: the same numbers as the whole history at once."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from roomrec.batches.batch import HistoryBatch
from roomrec.features.spec import HISTORY_INPUTS, FeatureSpec
from roomrec.models.attention import ExtendableBlock, Scope
from roomrec.models.sasrec import SASRec
from roomrec.models.transformer_block import TransformerBlock
from tests.blocks import BLOCKS, random_products

LENGTH = 9
SPEC = FeatureSpec(num_users=3, num_streamers=12, num_products=12, num_categories=4)
EXTENDABLE = sorted(set(BLOCKS) - {"hstu"})

splits = st.lists(st.integers(1, LENGTH), min_size=1, max_size=LENGTH).map(
    lambda sizes: [size for place, size in enumerate(sizes) if sum(sizes[: place + 1]) <= LENGTH] or [LENGTH]
)
"""Sizes of the groups in which events arrive, LENGTH in all at most."""


def block_of(name: str) -> ExtendableBlock:
    block = BLOCKS[name](embedding_dim=4, max_sequence_length=LENGTH, dropout_rate=0.0).double().eval()
    generator = torch.Generator().manual_seed(2)
    for weight in block.parameters():
        torch.nn.init.normal_(weight, generator=generator)
    return block


def encoder_of(name: str) -> torch.nn.Module:
    torch.manual_seed(4)
    model = SASRec(
        spec=SPEC,
        embedding_dim=8,
        max_sequence_length=LENGTH,
        num_blocks=3,
        block=BLOCKS[name],
        dropout_rate=0.3,
        id_dropout_rate=0.2,
    )
    model.describe_products(random_products(SPEC))
    return model.user_encoder.double().eval()


def history_of(length: int) -> HistoryBatch:
    generator = torch.Generator().manual_seed(length)
    columns = {name: torch.randint(1, 9, (length,), generator=generator) for name in HISTORY_INPUTS}
    return HistoryBatch(**columns, user_index=torch.ones(1, dtype=torch.long))


@pytest.mark.parametrize("name", EXTENDABLE)
@given(sizes=splits)
@settings(max_examples=15, deadline=None)
def test_a_block_gives_new_events_what_it_gives_them_in_the_whole(name, sizes):
    block = block_of(name)
    x = torch.randn(sum(sizes), 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    whole = block(x[None], Scope(None, torch.zeros(1, len(x), dtype=torch.long)))[0]
    past = [torch.zeros(0, 4, dtype=torch.float64)] * block.num_cached
    for size in sizes:
        start = len(past[0])
        new = x[start : start + size]
        out, added = block.extend(new, past)
        newest, added_again = block.extend(new, past, newest_only=True)
        torch.testing.assert_close(out, whole[start : start + size])
        torch.testing.assert_close(newest, whole[start + size - 1 : start + size])
        assert len(added) == block.num_cached
        for one, other in zip(added, added_again, strict=True):
            torch.testing.assert_close(one, other)
        past = [torch.cat(pair) for pair in zip(past, added, strict=True)]


@pytest.mark.parametrize("name", EXTENDABLE)
@given(sizes=splits)
@settings(max_examples=10, deadline=None)
def test_an_encoder_gives_the_vector_of_the_whole_history(name, sizes):
    encoder = encoder_of(name)
    history = history_of(sum(sizes))
    past = [torch.zeros(0, 8, dtype=torch.float64)] * encoder.num_cached
    stop = 0
    with torch.inference_mode():
        for size in sizes:
            start, stop = stop, stop + size
            new = HistoryBatch(*(getattr(history, name)[start:stop] for name in HISTORY_INPUTS), history.user_index)
            vector, added = encoder.encode_increment(new, past)
            whole = encoder(*(getattr(history, name)[None, :stop] for name in HISTORY_INPUTS))
            torch.testing.assert_close(vector, whole)
            past = [torch.cat(pair) for pair in zip(past, added, strict=True)]


def test_a_step_by_hand():
    block = TransformerBlock(
        embedding_dim=2, max_sequence_length=2, dropout_rate=0.0, num_heads=1, hidden_dim=2, norm_first=True
    ).double()
    with torch.no_grad():
        for weight in block.parameters():
            weight.zero_()
        block.attention.key_value.weight.copy_(torch.eye(2).repeat(2, 1))  # keys and values are the events
        block.attention.out.weight.copy_(torch.eye(2))
        block.attention_norm.weight.fill_(1.0)
        block.attention_norm.eps = 0.0
    past = [torch.tensor([[7.0, 7.0]], dtype=torch.float64), torch.tensor([[4.0, 8.0]], dtype=torch.float64)]
    # The new event is normalised to (-1, 1). Asking for nothing, it sees the mean of the values (4, 8) and (-1, 1).
    out, (key, value) = block.extend(torch.tensor([[1.0, 5.0]], dtype=torch.float64), past)
    assert out.tolist() == [[1.0 + 1.5, 5.0 + 4.5]]
    assert key.tolist() == value.tolist() == [[-1.0, 1.0]]


def test_what_is_kept_of_an_event_is_counted():
    assert {name: encoder_of(name).num_cached for name in EXTENDABLE} == {
        "pre_norm": 6,
        "post_norm": 6,
        "ligr": 6,
        "frequency": 9,
    }


def test_hstu_cannot_be_extended():
    # its bias for time counts whole seconds before the newest event, so later events change earlier outputs
    assert encoder_of("hstu").num_cached is None
