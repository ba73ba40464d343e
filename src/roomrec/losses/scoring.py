"""Dot products of users with the candidates each of them has.

Legend: P users at target positions, C items, N negatives, D embedding.
"""

import torch
from torch import Tensor

from roomrec.batches.batch import CandidateBatch

_GATHER_FROM = 8
"""Candidates for each negative from which single vectors are gathered instead of scoring everybody with everything."""


def score_candidates(user_PD: Tensor, item_CD: Tensor, candidates: CandidateBatch) -> tuple[Tensor, Tensor, Tensor]:
    """Score each user's positive and negatives, logQ-corrected, all at once in memory.

    Args:
        user_PD: User vectors.
        item_CD: Vectors of the batch's items.
        candidates: Which of them belong to which user.

    Returns:
        Float32 (or the vectors' own, if wider) logits of the positives ``[P]`` and of the negatives ``[P, N]``, each
        less its ``log_q``, and which negatives count, ``[P, N]`` bool.
    """
    positive_P = (user_PD * item_CD[candidates.positive]).sum(dim=-1) - candidates.positive_log_q
    if candidates.negative is None or candidates.real is None:
        everything_C = torch.arange(len(item_CD), device=item_CD.device)
        return (
            at_least_float32(positive_P),
            at_least_float32(user_PD @ item_CD.T),
            everything_C != candidates.positive[:, None],
        )
    if candidates.negative.dim() == 1:
        negative_PN = user_PD @ item_CD[candidates.negative].T
    elif len(item_CD) <= _GATHER_FROM * candidates.negative.shape[1]:
        negative_PN = (user_PD @ item_CD.T).gather(1, candidates.negative)
    else:
        negative_PN = torch.bmm(item_CD[candidates.negative], user_PD[:, :, None])[..., 0]
    negative_PN = negative_PN - candidates.negative_log_q
    return at_least_float32(positive_P), at_least_float32(negative_PN), candidates.real


def at_least_float32(logits: Tensor) -> Tensor:
    """Widen half precision, in which sums of exponentials would drown."""
    return logits if logits.dtype == torch.float64 else logits.float()
