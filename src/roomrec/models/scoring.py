"""Dot products of users with the candidates each of them has.

Legend: P users at target positions, C items, N negatives, D embedding.
"""

import torch
from torch import Tensor

from roomrec.batches.batch import CandidateBatch

_GATHER_FROM = 8
"""Candidates for each negative from which single vectors are gathered instead of scoring everybody with everything."""


def score_candidates(user_PD: Tensor, item_CD: Tensor, candidates: CandidateBatch) -> tuple[Tensor, Tensor]:
    """Score each user's positive and negatives, logQ-corrected.

    Args:
        user_PD: User vectors.
        item_CD: Vectors of the batch's items.
        candidates: Which of them belong to which user.

    Returns:
        Logits of the positives ``[P]`` and of the negatives ``[P, N]``, each less its ``log_q``.
    """
    positive_P = (user_PD * item_CD[candidates.positive]).sum(dim=-1)
    if candidates.negative.dim() == 1:
        negative_PN = user_PD @ item_CD[candidates.negative].T
    elif len(item_CD) <= _GATHER_FROM * candidates.negative.shape[1]:
        negative_PN = (user_PD @ item_CD.T).gather(1, candidates.negative)
    else:
        negative_PN = torch.bmm(item_CD[candidates.negative], user_PD[:, :, None])[..., 0]
    return positive_P - candidates.positive_log_q, negative_PN - candidates.negative_log_q
