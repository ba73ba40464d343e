"""One softmax for each user, whose target is everything the user chose.

Legend: B users, E positives, C items, N items of the denominator, R users of a chunk, D embedding.
"""

from typing import Any, Final

import torch
from torch import Tensor, nn

from roomrec.batches.batch import ChosenItems

LARGEST_LOGIT: Final = 80.0
"""Whose exponential float32 holds, and a sum of thousands of them; e to the 89 is infinite."""

_USERS_AT_ONCE: Final = 256
_ITEMS_AT_ONCE: Final = 4096
_SUM_COLUMNS: Final = 16
"""Columns of ones and zeros beside the item vectors: the product that gives the gradient then gives the sum, too."""


class UserSoftmax(nn.Module):
    """Mean cross-entropy of all positives, the denominator computed once for each user.

    Where all items are offered it equals the full softmax loss of every single positive, and costs as much as one
    positive a user. Where they are sampled, a positive is in its denominator only if it was drawn, and with a sampler
    that is not uniform the value lacks a constant, so it may fall below 0; gradients know nothing of either.

    Exponentials are taken as they are: logits must lie within ``LARGEST_LOGIT`` of 0, as those of unit vectors over a
    temperature of 0.0125 and more do.

    Example:
        >>> chosen = ChosenItems(torch.tensor([0, 1]), torch.tensor([0, 0]), None, None)
        >>> UserSoftmax()(torch.tensor([[1.0]]), torch.tensor([[0.0], [0.0], [0.0], [0.0]]), chosen)
        tensor(1.3863)

    Reference:
        Liang et al. 2018 (Mult-VAE), equation 2, with a linear decoder; Wu et al. 2022 (On the Effectiveness of Sampled
        Softmax Loss for Item Recommendation) for cosines over a temperature.
    """

    candidates_type = ChosenItems

    def forward(self, user_BD: Tensor, item_CD: Tensor, candidates: ChosenItems) -> Tensor:
        """Return the mean loss of the positives.

        Args:
            user_BD: User vectors, divided by the temperature.
            item_CD: Vectors of the batch's items.
            candidates: What each user chose, and the items of the denominator.

        Returns:
            A scalar.
        """
        num_positives = len(candidates.positive)
        weight_B = torch.bincount(candidates.positive_user, minlength=len(user_BD)) / num_positives
        offered_ND = item_CD if candidates.negative is None else item_CD[candidates.negative]
        device = user_BD.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else user_BD.dtype
        denominator: Tensor = _LogSumExp.apply(  # type: ignore[no-untyped-call]
            user_BD, offered_ND, candidates.negative_log_q, weight_B.to(user_BD.dtype), dtype
        )
        chosen_BD = torch.zeros_like(user_BD).index_add(0, candidates.positive_user, item_CD[candidates.positive])
        return denominator - (user_BD * chosen_BD).sum() / num_positives


class _LogSumExp(torch.autograd.Function):
    """Weighted sum of the users' log denominators; gradients come from the same chunks, which fit a core's cache."""

    @staticmethod
    def forward(
        ctx: Any, user_BD: Tensor, item_ND: Tensor, log_q_N: Tensor | None, weight_B: Tensor, dtype: torch.dtype
    ) -> Tensor:
        beside_N = item_ND.new_zeros(len(item_ND), _SUM_COLUMNS)
        beside_N[:, 0] = 1.0
        summed_ND = torch.cat([item_ND, beside_N], dim=1)
        if log_q_N is not None:
            summed_ND = summed_ND * torch.exp(-log_q_N - (-log_q_N).max())[:, None]
        scale_N = summed_ND[:, -_SUM_COLUMNS]
        blocks = list(
            zip(
                torch.split(item_ND.to(dtype), _ITEMS_AT_ONCE),
                torch.split(summed_ND.to(dtype), _ITEMS_AT_ONCE),
                strict=True,
            )
        )
        by_user_BD, by_item_ND = torch.empty_like(user_BD), torch.zeros_like(item_ND)
        loss = user_BD.new_zeros(())
        for first in range(0, len(user_BD), _USERS_AT_ONCE):
            rows = slice(first, first + _USERS_AT_ONCE)
            user_RD = user_BD[rows]
            sums_RD = user_BD.new_zeros(len(user_RD), summed_ND.shape[1])
            shares = []
            for plain_ND, widened_ND in blocks:
                share_RN = (user_RD.to(dtype) @ plain_ND.T).exp_()
                sums_RD += share_RN @ widened_ND
                shares.append(share_RN)
            total_R = sums_RD[:, -_SUM_COLUMNS]
            pull_R1 = (weight_B[rows] / total_R)[:, None]
            by_user_BD[rows] = sums_RD[:, :-_SUM_COLUMNS] * pull_R1
            pulling_RD = (user_RD * pull_R1).to(dtype)
            for share_RN, by_block_ND in zip(shares, torch.split(by_item_ND, _ITEMS_AT_ONCE), strict=True):
                by_block_ND += share_RN.T @ pulling_RD
            loss += (weight_B[rows] * total_R.log()).sum()
        if log_q_N is not None:
            by_item_ND *= scale_N[:, None]
        ctx.save_for_backward(by_user_BD, by_item_ND)
        return loss

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        by_user_BD, by_item_ND = ctx.saved_tensors
        return gradients[0] * by_user_BD, gradients[0] * by_item_ND, None, None, None
