"""The baselines of a config that make sense for a dataset."""

from collections.abc import Mapping
from typing import Any

from hydra.utils import get_object, instantiate

from roomrec.sequences.dataset import ProcessedDataset
from roomrec.sequences.queries import Queries
from training.evaluation.popularity import RecentPopularity
from training.evaluation.ranking import Scorer


def make_baselines(config: Mapping[Any, Any], dataset: ProcessedDataset, queries: Queries) -> list[Scorer]:
    """Make the scorers that stand beside the model.

    Recent popularity is left out unless the log is split by time: elsewhere instants may be made up, and what is held
    out of one user is older than what others trained with.

    Args:
        config: Name -> a node with ``_target_``, called with the dataset and the queries.
        dataset: Where the queries come from.
        queries: What is asked.
    """
    by_time = dataset.summary["split"]["kind"] == "by_time"
    return [
        instantiate(node, _partial_=True)(dataset, queries)
        for node in config.values()
        if by_time or get_object(node._target_) is not RecentPopularity
    ]
