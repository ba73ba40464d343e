"""Positives and sampled negatives to the distinct items a batch has to encode."""

import numpy as np
import numpy.typing as npt
import torch

from roomrec.batches.batch import CandidateBatch
from roomrec.batches.negatives import SampledNegatives

Int64Array = npt.NDArray[np.int64]


def collate_candidates(positive: Int64Array, negatives: SampledNegatives) -> tuple[Int64Array, CandidateBatch]:
    """Number the distinct items of a batch, so that each is encoded once.

    Args:
        positive: Item of each target, shape ``[P]``.
        negatives: What a sampler drew for them.

    Returns:
        The distinct items ``[C]``, ascending, and the batch that refers to them by place.
    """
    together = np.concatenate([positive, negatives.item.ravel()])
    distinct, place = np.unique(together, return_inverse=True)
    every_item = negatives.real is None
    return distinct, CandidateBatch(
        positive=torch.from_numpy(place[: len(positive)]),
        negative=None if every_item else torch.from_numpy(place[len(positive) :].reshape(negatives.item.shape)),
        real=None if negatives.real is None else torch.from_numpy(negatives.real),
        positive_log_q=torch.from_numpy(negatives.positive_log_q),
        negative_log_q=torch.from_numpy(negatives.negative_log_q),
        sampling_rate=negatives.sampling_rate,
    )
