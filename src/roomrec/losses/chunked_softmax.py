"""Cross-entropy among items that all targets share, with logits that never exist all at once.

Legend: P target positions, F the same filled up with zeros, R rows of a chunk, N shared negatives, D embedding.
"""

from typing import Any

import torch
from torch import Tensor, nn

from roomrec.losses.scoring import at_least_float32

_LOGITS_AT_ONCE = {"cpu": 1 << 21}
"""Logits of a chunk: a few MiB in bfloat16, near a core's cache."""

_LOGITS_AT_ONCE_ELSEWHERE = 1 << 27
"""On an accelerator: enough to fill it, 256 MiB in bfloat16."""

_ROWS = 32
"""Rows of a chunk are a multiple of it, filled up with zeros: a library that prepares and keeps a kernel for each shape
of a product of matrices, as oneDNN does, meets few shapes instead of a new one every step."""


def chunked_softmax(
    user_PD: Tensor,
    positive_PD: Tensor,
    negative_ND: Tensor,
    *,
    positive_place_P: Tensor | None = None,
    real_PN: Tensor | None = None,
    positive_log_q_P: Tensor | None = None,
    negative_log_q_N: Tensor | None = None,
    logits_at_once: int | None = None,
) -> Tensor:
    """Mean cross-entropy of each user's positive among itself and the shared negatives.

    Forward computes loss and gradients chunk by chunk of users, so peak memory is one chunk of logits instead of
    ``[P, N]`` several times over. Under autocast logits and shares are in its precision, also the positive's logit,
    which is computed in float32 and then rounded beside the others, and its share, of which loss and pull are made: in
    bfloat16 a share above 511/512 is 1. What is summed over chunks is float32.

    Args:
        user_PD: User vectors.
        positive_PD: Vector of each user's positive.
        negative_ND: Vectors of the negatives, shared by all users.
        positive_place_P: Where each positive stands among the negatives, to be left out there; or
        real_PN: False for negatives that do not count for a user. Give one of the two.
        positive_log_q_P: Subtracted from the positives' logits; None for 0.
        negative_log_q_N: Subtracted from the negatives' logits; None for 0.
        logits_at_once: Size of a chunk; chosen by device if not given.

    Returns:
        A scalar; the part of a positive without negatives is 0.

    Example:
        >>> user, items = torch.tensor([[1.0], [0.0]]), torch.tensor([[2.0], [1.0], [0.0]])
        >>> chunked_softmax(user, items[[0, 2]], items, positive_place_P=torch.tensor([0, 2]))
        tensor(0.7531)

    Reference:
        Wijmans et al. 2025 (Cut Your Losses) and Hsu et al. 2024 (Liger Kernel) for computing the gradient of a linear
        layer and its cross-entropy chunk by chunk; here the classes are item vectors and hits are removed.
    """
    num_logits = logits_at_once or _LOGITS_AT_ONCE.get(user_PD.device.type, _LOGITS_AT_ONCE_ELSEWHERE)
    rows_at_once = max(num_logits // (len(negative_ND) + 1) // _ROWS * _ROWS, _ROWS)
    device = user_PD.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else user_PD.dtype
    # Inside, precisions are chosen by hand: autocast would widen every chunk for its softmax and narrow it again.
    with torch.autocast(device, enabled=False):
        loss: Tensor = _ChunkedSoftmax.apply(  # type: ignore[no-untyped-call]
            user_PD,
            positive_PD,
            negative_ND,
            positive_place_P,
            real_PN,
            positive_log_q_P,
            negative_log_q_N,
            rows_at_once,
            dtype,
        )
    return loss


class _ChunkedSoftmax(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        user_PD: Tensor,
        positive_PD: Tensor,
        negative_ND: Tensor,
        place_P: Tensor | None,
        real_PN: Tensor | None,
        positive_log_q_P: Tensor | None,
        negative_log_q_N: Tensor | None,
        rows_at_once: int,
        dtype: torch.dtype,
    ) -> Tensor:
        num_users, num_negatives, device = len(user_PD), len(negative_ND), user_PD.device
        wide = at_least_float32(user_PD[:0]).dtype
        num_rows = -(-num_users // _ROWS) * _ROWS
        users_FD = nn.functional.pad(user_PD.to(dtype), (0, 0, 0, num_rows - num_users))
        own_PD = positive_PD.to(wide)
        own_logit_P = (user_PD.to(wide) * own_PD).sum(dim=1)
        if positive_log_q_P is not None:
            own_logit_P = own_logit_P - positive_log_q_P
        # One more column, at first empty, takes each user's own positive: one softmax over one block of memory.
        classes_ND = torch.cat([negative_ND, negative_ND.new_zeros(1, negative_ND.shape[1])]).to(dtype)
        by_user_PD = torch.empty_like(user_PD, dtype=wide)
        by_class_ND = torch.zeros_like(classes_ND, dtype=wide)
        own_share_P = torch.empty_like(own_logit_P)
        logits_RN = torch.empty(min(rows_at_once, num_rows), num_negatives + 1, dtype=dtype, device=device)
        # Written again and again: memory cleared and handed out anew for every chunk costs more than its softmax.
        shares_RN = torch.empty_like(logits_RN)
        for first in range(0, num_users, rows_at_once):
            rows = slice(first, min(first + rows_at_once, num_users))
            filled = slice(first, min(first + rows_at_once, num_rows))
            filled_RN = logits_RN[: filled.stop - first]
            torch.mm(users_FD[filled], classes_ND.T, out=filled_RN)
            chunk_RN = filled_RN[: rows.stop - first]
            if negative_log_q_N is not None:
                chunk_RN[:, :-1] -= negative_log_q_N
            if real_PN is not None:
                chunk_RN[:, :-1].masked_fill_(~real_PN[rows], float("-inf"))
            if place_P is not None:
                # Not scatter_, which on a CPU copies the whole chunk of bfloat16 twice.
                chunk_RN[torch.arange(len(chunk_RN), device=device), place_P[rows]] = float("-inf")
            chunk_RN[:, -1] = own_logit_P[rows]
            share_RN = torch.softmax(filled_RN, dim=1, out=shares_RN[: len(filled_RN)])
            own_share_P[rows] = share_RN[: len(chunk_RN), -1]
            by_user_PD[rows] = (share_RN @ classes_ND)[: len(chunk_RN)]
            by_class_ND += share_RN.T @ users_FD[filled]
        pull_P1 = (own_share_P - 1.0)[:, None]
        by_user_PD += pull_P1 * own_PD
        ctx.save_for_backward(by_user_PD / num_users, pull_P1 * user_PD.to(wide) / num_users, by_class_ND / num_users)
        ctx.dtypes = user_PD.dtype, positive_PD.dtype, negative_ND.dtype
        return -own_share_P.clamp(min=torch.finfo(wide).tiny).log().mean()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        by_user_PD, by_positive_PD, by_class_ND = ctx.saved_tensors
        parts = (by_user_PD, by_positive_PD, by_class_ND[:-1])
        scaled = ((gradients[0] * part).to(dtype) for part, dtype in zip(parts, ctx.dtypes, strict=True))
        return (*scaled, None, None, None, None, None, None)
