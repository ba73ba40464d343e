"""Binary cross-entropy that undoes the overconfidence of sampled negatives.

Legend: P target positions, C items, N negatives, D embedding.
"""

import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from roomrec.batches.batch import CandidateBatch
from roomrec.losses.scoring import score_candidates


class GeneralizedBinaryCrossEntropy(nn.Module):
    """Logistic loss in which the positive's probability is raised to a power ``beta`` below one.

    With N of M possible negatives drawn, a = N / M, and calibration t: ``beta = a (t (1 - 1 / a) + 1 / a)``. t = 0 is
    plain binary cross-entropy, t = 1 gives the probabilities of a full softmax.

    Args:
        calibration: t, from 0 to 1.

    Raises:
        ValueError: If it is not.

    Reference:
        Petrov & Macdonald 2023 (gSASRec), equations 6 and 13; like there, the negatives' losses are summed. The sum is
        divided by the number of terms of a positive.
    """

    candidates_type = CandidateBatch

    def __init__(self, *, calibration: float) -> None:
        super().__init__()
        if not 0.0 <= calibration <= 1.0:
            raise ValueError(f"calibration must be from 0 to 1, received {calibration}")
        self.calibration = calibration

    def forward(self, user_PD: Tensor, item_CD: Tensor, candidates: CandidateBatch) -> Tensor:
        """Return the mean loss of the positives.

        Args:
            user_PD: User vectors at the target positions.
            item_CD: Vectors of the batch's items.
            candidates: Which of them are whose positive and negatives, and how many of all negatives these are.

        Returns:
            A scalar.
        """
        positive_P, negative_PN, real_PN = score_candidates(user_PD, item_CD, candidates)
        rate = min(candidates.sampling_rate, 1.0)
        beta = rate * (self.calibration * (1.0 - 1.0 / rate) + 1.0 / rate)
        of_negatives_P = (F.softplus(negative_PN) * real_PN).sum(dim=1)
        terms_P = 1 + real_PN.sum(dim=1)
        return ((beta * F.softplus(-positive_P) + of_negatives_P) / terms_P).mean()
