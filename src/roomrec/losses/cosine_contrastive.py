"""Cosine contrastive loss: chosen items as near as can be, others no nearer than a margin.

Legend: B users, E positives, C items, N items offered, R users of a chunk, D embedding.
"""

from typing import Any, Final

import torch
from torch import Tensor, nn

from roomrec.batches.batch import ChosenItems

_USERS_AT_ONCE: Final = 256
_ITEMS_AT_ONCE: Final = 4096
_COUNT_COLUMNS: Final = 16
"""Columns beside the item vectors, the first of ones: the product that gives the gradient then counts, too."""


class CosineContrastive(nn.Module):
    """Mean over positives of one minus their cosine, plus what others exceed a margin by, on the average, weighted.

    An item that is near, but not nearer than the margin, is left alone, so that what many like may be near to many.
    What others exceed is computed once for each user, whatever number of positives he has. Positives are among the
    others where they are offered. Needs unit vectors: a model with ``temperature=1``.

    Args:
        margin: From which cosine on others are pushed away.
        negative_weight: Of the others' mean excess. Far below the number of items offered: near it, positives, which
            are among them, are pushed as hard as they are pulled.

    Raises:
        ValueError: If the margin is outside -1 to 1 or the weight not above 0.

    Example:
        >>> chosen = ChosenItems(torch.tensor([0]), torch.tensor([0]), None, None)
        >>> loss = CosineContrastive(margin=0.5, negative_weight=4.0)
        >>> loss(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.8, 0.6], [0.6, 0.8], [0.0, 1.0]]), chosen)
        tensor(0.7333)

    Reference:
        Mao et al. 2021 (SimpleX), equation 4; here the mean is over all items offered instead of a sample a positive.
    """

    candidates_type = ChosenItems

    def __init__(self, *, margin: float, negative_weight: float) -> None:
        super().__init__()
        if not -1.0 <= margin <= 1.0:
            raise ValueError(f"margin must be from -1 to 1, received {margin}")
        if negative_weight <= 0.0:
            raise ValueError(f"negative_weight must be above 0, received {negative_weight}")
        self.margin = margin
        self.negative_weight = negative_weight

    def forward(self, user_BD: Tensor, item_CD: Tensor, candidates: ChosenItems) -> Tensor:
        """Return the mean loss of the positives.

        Args:
            user_BD: Unit vectors of users.
            item_CD: Unit vectors of the batch's items.
            candidates: What each user chose, and the items offered.

        Returns:
            A scalar.
        """
        num_positives = len(candidates.positive)
        weight_B = torch.bincount(candidates.positive_user, minlength=len(user_BD)) / num_positives
        offered_ND = item_CD if candidates.negative is None else item_CD[candidates.negative]
        log_q_N = candidates.negative_log_q
        share_N = offered_ND.new_zeros(len(offered_ND)) if log_q_N is None else -log_q_N.to(offered_ND.dtype)
        device = user_BD.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else user_BD.dtype
        excess: Tensor = _MeanExcess.apply(  # type: ignore[no-untyped-call]
            user_BD, offered_ND, share_N.softmax(dim=0), weight_B.to(user_BD.dtype), self.margin, dtype
        )
        chosen_BD = torch.zeros_like(user_BD).index_add(0, candidates.positive_user, item_CD[candidates.positive])
        return 1.0 - (user_BD * chosen_BD).sum() / num_positives + self.negative_weight * excess

    def floor(self, candidates: ChosenItems, *, num_items: int) -> float:
        """Return what the loss cannot fall below: a positive that is offered is pushed back to the margin, too.

        With one positive a user it is what perfect vectors come to.

        Args:
            candidates: What each user chose, and the items offered.
            num_items: C.
        """
        positive, offered, log_q_N = candidates.positive, candidates.negative, candidates.negative_log_q
        if offered is None:
            offered = torch.arange(num_items, device=positive.device)
        share_N = (torch.zeros(len(offered), device=positive.device) if log_q_N is None else -log_q_N).softmax(dim=0)
        share_C = share_N.new_zeros(num_items).index_add(0, offered, share_N)
        return (1.0 - self.margin) * float((self.negative_weight * share_C[positive]).clamp(max=1.0).mean())


class _MeanExcess(torch.autograd.Function):
    """Weighted sum of the users' mean excess; gradients come from the same chunks, which fit a core's cache."""

    @staticmethod
    def forward(
        ctx: Any,
        user_BD: Tensor,
        item_ND: Tensor,
        share_N: Tensor,
        weight_B: Tensor,
        margin: float,
        dtype: torch.dtype,
    ) -> Tensor:
        beside_N = item_ND.new_zeros(len(item_ND), _COUNT_COLUMNS)
        beside_N[:, 0] = 1.0
        summed_ND = torch.cat([item_ND, beside_N], dim=1) * (share_N * len(share_N))[:, None]
        blocks = list(
            zip(
                torch.split(item_ND.to(dtype), _ITEMS_AT_ONCE),
                torch.split(summed_ND.to(dtype), _ITEMS_AT_ONCE),
                strict=True,
            )
        )
        by_user_BD, by_item_ND = torch.empty_like(user_BD), torch.zeros_like(item_ND)
        excess = user_BD.new_zeros(())
        for first in range(0, len(user_BD), _USERS_AT_ONCE):
            rows = slice(first, first + _USERS_AT_ONCE)
            user_RD, weight_R1 = user_BD[rows], weight_B[rows, None] / len(share_N)
            pushing_RD = (user_RD * weight_R1).to(dtype)
            sums_RD = user_BD.new_zeros(len(user_RD), summed_ND.shape[1])
            for (plain_ND, widened_ND), by_block_ND in zip(
                blocks, torch.split(by_item_ND, _ITEMS_AT_ONCE), strict=True
            ):
                above_RN = (user_RD.to(dtype) @ plain_ND.T).gt_(margin)
                sums_RD += above_RN @ widened_ND
                by_block_ND += above_RN.T @ pushing_RD
            pushed_RD, count_R1 = sums_RD[:, :-_COUNT_COLUMNS], sums_RD[:, -_COUNT_COLUMNS, None]
            by_user_BD[rows] = pushed_RD * weight_R1
            excess += (((user_RD * pushed_RD).sum(dim=1, keepdim=True) - margin * count_R1) * weight_R1).sum()
        by_item_ND *= (share_N * len(share_N))[:, None]
        ctx.save_for_backward(by_user_BD, by_item_ND)
        return excess

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        by_user_BD, by_item_ND = ctx.saved_tensors
        return gradients[0] * by_user_BD, gradients[0] * by_item_ND, None, None, None, None
