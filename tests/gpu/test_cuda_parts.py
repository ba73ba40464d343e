"""Parts that take another path on a CUDA device: fused kernels, bf16, chunks."""

import pytest
import torch

from roomrec.losses.chunked_softmax import chunked_softmax
from roomrec.models.attention import Scope
from roomrec.models.dropout import Dropout
from tests.blocks import BLOCKS

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.mark.parametrize("logits_at_once", [1, None])
def test_chunked_softmax_under_bf16_is_close_to_the_plain_one(logits_at_once):
    torch.manual_seed(0)
    users = torch.randn(300, 64, device="cuda", requires_grad=True)
    items = (torch.randn(5000, 64, device="cuda") * 0.1).requires_grad_()
    positive = torch.randint(5000, (300,), device="cuda")
    plain = torch.nn.functional.cross_entropy(users @ items.T, positive)
    expected = torch.autograd.grad(plain, (users, items))
    with torch.autocast("cuda", dtype=torch.bfloat16):
        loss = chunked_softmax(users, items[positive], items, positive_place_P=positive, logits_at_once=logits_at_once)
    torch.testing.assert_close(loss, plain, rtol=0.01, atol=0.01)
    for gradient, exact in zip(torch.autograd.grad(loss, (users, items)), expected, strict=True):
        torch.testing.assert_close(gradient, exact, rtol=0.05, atol=1e-3)


def test_chunked_softmax_never_holds_all_logits():
    users = torch.randn(4096, 64, device="cuda", requires_grad=True)
    items = torch.randn(100_000, 64, device="cuda", requires_grad=True)
    positive = torch.randint(100_000, (4096,), device="cuda")
    torch.cuda.reset_peak_memory_stats()
    with torch.autocast("cuda", dtype=torch.bfloat16):
        chunked_softmax(users, items[positive], items, positive_place_P=positive, logits_at_once=1 << 22).backward()
    # All logits in float32 would take 1.6 GB.
    assert torch.cuda.max_memory_allocated() < 400_000_000


@pytest.mark.parametrize("block", sorted(BLOCKS))
def test_blocks_give_in_bf16_nearly_what_they_give_on_the_cpu(block):
    torch.manual_seed(0)
    module = BLOCKS[block](embedding_dim=32, max_sequence_length=40, dropout_rate=0.0)
    x, scope = torch.randn(4, 40, 32), Scope(None, torch.arange(39, -1, -1).expand(4, 40))
    expected = module(x, scope)
    with torch.autocast("cuda", dtype=torch.bfloat16):
        found = module.cuda()(x.cuda(), Scope(None, scope.age_BL.cuda()))
    torch.testing.assert_close(found.float().cpu(), expected, rtol=0.05, atol=0.05)


def test_causal_attention_without_a_mask_takes_the_flash_kernel():
    query = torch.randn(2, 2, 128, 32, device="cuda", dtype=torch.bfloat16)
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.FLASH_ATTENTION):
        torch.nn.functional.scaled_dot_product_attention(query, query, query, is_causal=True)


def test_dropout_on_the_device():
    torch.manual_seed(0)
    dropped = Dropout(0.25)(torch.ones(100_000, device="cuda"))
    assert (dropped == 0).float().mean().item() == pytest.approx(0.25, abs=0.01)
