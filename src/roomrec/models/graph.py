"""Who took what as a bipartite graph, and vectors smoothed along its edges.

Legend: U users, V products, D embedding.
"""

from typing import Any, NamedTuple, Self

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from roomrec.ids import FIRST_INDEX
from roomrec.sequences.dataset import TRAIN_SPLIT
from roomrec.sequences.histories import Histories


class InteractionGraph(NamedTuple):
    """Edges between users and products, sorted from both sides; an edge that is there twice counts twice."""

    product_of_user: Tensor
    """[edges] products, user by user"""
    user_offsets: Tensor
    """[U + 1]"""
    user_of_product: Tensor
    """[edges] users, product by product"""
    product_offsets: Tensor
    """[V + 1]"""

    @classmethod
    def of_training(cls, histories: Histories, *, num_users: int, num_products: int) -> Self:
        """Take every known product of a training event as an edge to its user.

        Args:
            histories: Everybody's events.
            num_users: U, of the vocabulary.
            num_products: V, of the vocabulary.
        """
        place = np.flatnonzero((histories.split == TRAIN_SPLIT) & (histories.product_index >= FIRST_INDEX))
        user = histories.user_index[np.searchsorted(histories.offsets, place, side="right") - 1].astype(np.int64)
        product = histories.product_index[place].astype(np.int64)
        known = user >= FIRST_INDEX
        return cls.of_edges(user[known], product[known], num_users=num_users, num_products=num_products)

    @classmethod
    def of_edges(
        cls,
        user: np.ndarray[tuple[int], np.dtype[np.int64]],
        product: np.ndarray[tuple[int], np.dtype[np.int64]],
        *,
        num_users: int,
        num_products: int,
    ) -> Self:
        """Sort edges from both sides.

        Args:
            user: One end of each edge, shape ``[edges]``.
            product: The other end.
            num_users: U.
            num_products: V.

        Example:
            >>> graph = InteractionGraph.of_edges(np.array([1, 0]), np.array([2, 2]), num_users=2, num_products=3)
            >>> graph.user_of_product, graph.product_offsets
            (tensor([0, 1]), tensor([0, 0, 0, 2]))
        """
        by_user, by_product = np.lexsort((product, user)), np.lexsort((user, product))
        return cls(
            product_of_user=torch.from_numpy(product[by_user]),
            user_offsets=_offsets(user, num_users),
            user_of_product=torch.from_numpy(user[by_product]),
            product_offsets=_offsets(product, num_products),
        )

    def to(self, device: torch.device) -> "InteractionGraph":
        """Return the graph on a device."""
        return InteractionGraph(*(tensor.to(device) for tensor in self))

    def pooled_by_user(self, product_VD: Tensor) -> Tensor:
        """Sum over each user's products, divided by the root of their number, ``[U, D]``."""
        return self._pool(product_VD, to_users=True) * inverse_root(self.user_offsets.diff())

    def spread_to_users(self, product_VD: Tensor) -> Tensor:
        """Each product to its users, divided by the roots of both numbers of edges, ``[U, D]``."""
        return self.pooled_by_user(product_VD * inverse_root(self.product_offsets.diff()))

    def spread_to_products(self, user_UD: Tensor) -> Tensor:
        """Each user to his products, divided by the roots of both numbers of edges, ``[V, D]``."""
        scaled_UD = user_UD * inverse_root(self.user_offsets.diff())
        return self._pool(scaled_UD, to_users=False) * inverse_root(self.product_offsets.diff())

    def _pool(self, values: Tensor, *, to_users: bool) -> Tensor:
        there = (self.product_of_user, self.user_offsets)
        back = (self.user_of_product, self.product_offsets)
        if not to_users:
            there, back = back, there
        pooled: Tensor = _SumOfNeighbours.apply(values, *there, *back)  # type: ignore[no-untyped-call]
        return pooled


def inverse_root(count: Tensor) -> Tensor:
    """Return one over the root of each count, a column; of none as of one.

    Example:
        >>> inverse_root(torch.tensor([0, 4])).tolist()
        [[1.0], [0.5]]
    """
    return count.clamp(min=1)[:, None].float().rsqrt()


class _SumOfNeighbours(torch.autograd.Function):
    """A sparse matrix of ones times a dense one; the gradient is the same over the edges from the other side."""

    @staticmethod
    def forward(
        ctx: Any, values: Tensor, there: Tensor, there_offsets: Tensor, back: Tensor, back_offsets: Tensor
    ) -> Tensor:
        ctx.save_for_backward(back, back_offsets)
        return _sum(values, there, there_offsets)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        back, back_offsets = ctx.saved_tensors
        return _sum(gradients[0].contiguous(), back, back_offsets), None, None, None, None


def _sum(values: Tensor, neighbour: Tensor, offsets: Tensor) -> Tensor:
    return F.embedding_bag(neighbour, values, offsets, mode="sum", include_last_offset=True)


def _offsets(end: np.ndarray[tuple[int], np.dtype[np.int64]], num_nodes: int) -> Tensor:
    counts = np.bincount(end, minlength=num_nodes)
    return torch.from_numpy(np.concatenate([[0], np.cumsum(counts)]))
