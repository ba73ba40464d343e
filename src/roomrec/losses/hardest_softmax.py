"""Cross-entropy of the positive among itself and those of its negatives that score highest.

Legend: P target positions, C items, N negatives, K kept, D embedding.
"""

import torch
from torch import Tensor, nn

from roomrec.batches.batch import CandidateBatch
from roomrec.losses.scoring import score_candidates


class HardestSoftmax(nn.Module):
    """Softmax over [positive | hardest negatives], chosen anew at every step by the model's own scores.

    Easy negatives have no share of the denominator worth a gradient; without them the loss turns to what stands
    just above or below the positive. Scores are logQ-corrected before the choice.

    Args:
        num_hardest: K, the negatives of each positive that count; all where there are fewer.

    Raises:
        ValueError: If it is below 1.

    Reference:
        Zhang et al. 2013 (dynamic negative sampling): the highest scored of a uniform sample.
    """

    candidates_type = CandidateBatch

    def __init__(self, *, num_hardest: int) -> None:
        super().__init__()
        if num_hardest < 1:
            raise ValueError(f"num_hardest must be at least 1, received {num_hardest}")
        self._num_hardest = num_hardest

    def forward(self, user_PD: Tensor, item_CD: Tensor, candidates: CandidateBatch) -> Tensor:
        """Return the mean loss of the positives.

        Args:
            user_PD: User vectors at the target positions.
            item_CD: Vectors of the batch's items.
            candidates: Which of them are whose positive and negatives.

        Returns:
            A scalar; 0 for a positive without negatives.
        """
        positive_P, negative_PN, real_PN = score_candidates(user_PD, item_CD, candidates)
        negative_PN = negative_PN.masked_fill(~real_PN, float("-inf"))
        hardest_PK = negative_PN.topk(min(self._num_hardest, negative_PN.shape[1]), dim=1).values
        everything_P1K = torch.cat([positive_P[:, None], hardest_PK], dim=1)
        return (torch.logsumexp(everything_P1K, dim=1) - positive_P).mean()
