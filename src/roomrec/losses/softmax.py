"""Cross-entropy of the positive among itself and its negatives, drawn or all there are.

Legend: P target positions, C items, N negatives, D embedding.
"""

import torch
from torch import Tensor, nn

from roomrec.batches.batch import CandidateBatch
from roomrec.losses.chunked_softmax import chunked_softmax
from roomrec.losses.scoring import score_candidates


class Softmax(nn.Module):
    """Softmax over [positive | negatives]: sampled, or full where the sampler offers every item.

    Negatives that all targets share are worked through in chunks. With a sampler that is not uniform the logits are
    corrected by the sampler's ``log_q``.

    Reference:
        Jean et al. 2015; logQ correction as in Yi et al. 2019 (RecSys), equation 3.
    """

    candidates_type = CandidateBatch

    def forward(self, user_PD: Tensor, item_CD: Tensor, candidates: CandidateBatch) -> Tensor:
        """Return the mean loss of the positives.

        Args:
            user_PD: User vectors at the target positions.
            item_CD: Vectors of the batch's items.
            candidates: Which of them are whose positive and negatives.

        Returns:
            A scalar; 0 for a positive without negatives.
        """
        if candidates.negative is None:
            own_PD = item_CD[candidates.positive]
            return chunked_softmax(user_PD, own_PD, item_CD, positive_place_P=candidates.positive)
        if candidates.negative.dim() == 1:
            return chunked_softmax(
                user_PD,
                item_CD[candidates.positive],
                item_CD[candidates.negative],
                real_PN=candidates.real,
                positive_log_q_P=candidates.positive_log_q,
                negative_log_q_N=candidates.negative_log_q,
            )
        positive_P, negative_PN, real_PN = score_candidates(user_PD, item_CD, candidates)
        negative_PN = negative_PN.masked_fill(~real_PN, float("-inf"))
        everything_P1N = torch.cat([positive_P[:, None], negative_PN], dim=1)
        return (torch.logsumexp(everything_P1N, dim=1) - positive_P).mean()
