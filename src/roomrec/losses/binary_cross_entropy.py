"""Each positive and each negative judged on its own.

Legend: P target positions, C items, N negatives, D embedding.
"""

import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from roomrec.batches.batch import CandidateBatch
from roomrec.losses.scoring import score_candidates


class BinaryCrossEntropy(nn.Module):
    """Logistic loss of the positive plus the mean logistic loss of its negatives.

    Reference:
        Kang & McAuley 2018 (SASRec), equation 6, with any number of negatives.
    """

    candidates_type = CandidateBatch

    def forward(self, user_PD: Tensor, item_CD: Tensor, candidates: CandidateBatch) -> Tensor:
        """Return the mean loss of the positives.

        Args:
            user_PD: User vectors at the target positions.
            item_CD: Vectors of the batch's items.
            candidates: Which of them are whose positive and negatives.

        Returns:
            A scalar; a positive without negatives adds its own half alone.
        """
        positive_P, negative_PN, real_PN = score_candidates(user_PD, item_CD, candidates)
        of_negatives_PN = F.softplus(negative_PN) * real_PN
        of_negatives_P = of_negatives_PN.sum(dim=1) / real_PN.sum(dim=1).clamp(min=1)
        return (F.softplus(-positive_P) + of_negatives_P).mean()
