"""Cross-entropy of the positive among itself and its sampled negatives.

Legend: P target positions, N negatives.
"""

import torch
from torch import Tensor, nn


class SampledSoftmax(nn.Module):
    """Softmax over [positive | negatives].

    With a sampler that is not uniform the logits must be logQ-corrected.

    Example:
        >>> loss = SampledSoftmax()
        >>> loss(torch.tensor([0.0]), torch.tensor([[0.0, 7.0]]), torch.tensor([[True, False]]))
        tensor(0.6931)

    Reference:
        Jean et al. 2015; logQ correction as in Yi et al. 2019 (RecSys), equation 3.
    """

    def forward(self, positive_P: Tensor, negative_PN: Tensor, real_PN: Tensor) -> Tensor:
        """Return the mean loss of the positives.

        Args:
            positive_P: Logits of the positives.
            negative_PN: Logits of their negatives.
            real_PN: False for negatives that do not count.

        Returns:
            A scalar; 0 for a positive without negatives.
        """
        positive_P = positive_P.float()
        negative_PN = negative_PN.float().masked_fill(~real_PN, float("-inf"))
        everything_P1N = torch.cat([positive_P[:, None], negative_PN], dim=1)
        return (torch.logsumexp(everything_P1N, dim=1) - positive_P).mean()
