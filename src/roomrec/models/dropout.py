"""Dropout whose random draws cost little on a CPU."""

import torch
from torch import Tensor, nn

_STEPS = 256


class Dropout(nn.Module):
    """Zeroes a share of the values in training and scales up the others.

    On a CPU eight values share one 64-bit draw, a byte each, so the rate is rounded to 1/256; PyTorch's own draws one
    number a value, a fifth of a SASRec step. Elsewhere it is PyTorch's.

    Args:
        rate: Share dropped, from 0 to below 1.

    Raises:
        ValueError: If ``rate`` is outside.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> dropped = Dropout(0.25)(torch.ones(100_000))
        >>> dropped.unique(), round(float((dropped == 0).float().mean()), 2)
        (tensor([0.0000, 1.3333]), 0.25)
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        if not 0.0 <= rate < 1.0:
            raise ValueError(f"dropout_rate must be at least 0 and below 1, received {rate}")
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` with some values zeroed, in any shape."""
        if not self.training or self.rate == 0.0:
            return x
        if x.device.type != "cpu":
            return torch.nn.functional.dropout(x, self.rate)
        num_dropped = min(round(self.rate * _STEPS), _STEPS - 1)
        draws = torch.empty(-(-x.numel() // 8), dtype=torch.int64).random_(-(2**63), None)
        kept = (draws.view(torch.uint8)[: x.numel()] >= num_dropped).view(x.shape)
        return x * kept.to(x.dtype).mul_(_STEPS / (_STEPS - num_dropped))
