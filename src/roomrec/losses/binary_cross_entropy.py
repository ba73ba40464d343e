"""Each positive and each negative judged on its own.

Legend: P target positions, N negatives.
"""

import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn


class BinaryCrossEntropy(nn.Module):
    """Logistic loss of the positive plus the mean logistic loss of its negatives.

    Reference:
        Kang & McAuley 2018 (SASRec), equation 6, with any number of negatives.
    """

    def forward(self, positive_P: Tensor, negative_PN: Tensor, real_PN: Tensor) -> Tensor:
        """Return the mean loss of the positives.

        Args:
            positive_P: Logits of the positives.
            negative_PN: Logits of their negatives.
            real_PN: False for negatives that do not count.

        Returns:
            A scalar; a positive without negatives adds its own half alone.
        """
        of_negatives_PN = F.softplus(negative_PN.float()) * real_PN
        of_negatives_P = of_negatives_PN.sum(dim=1) / real_PN.sum(dim=1).clamp(min=1)
        return (F.softplus(-positive_P.float()) + of_negatives_P).mean()
