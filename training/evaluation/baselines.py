"""The baselines of a config that make sense for a dataset."""

from collections.abc import Mapping
from typing import Any

from hydra.utils import get_object, instantiate

from roomrec.sequences.dataset import ProcessedDataset
from training.evaluation.content import ContentBased
from training.evaluation.popularity import RecentPopularity
from training.evaluation.ranking import Scorer


def make_baselines(config: Mapping[Any, Any], dataset: ProcessedDataset) -> list[Scorer]:
    """Fit the scorers that stand beside the model on the train split.

    Recent popularity is left out unless the log is split by time: elsewhere instants may be made up, and what is held
    out of one user is older than what others trained with. Content-based scores are left out where items have no side
    features.

    Args:
        config: Name -> a node with ``_target_``, called with the dataset.
        dataset: What to fit on.
    """
    by_time = dataset.summary["split"]["kind"] == "by_time"
    senseless: set[object] = set() if by_time else {RecentPopularity}
    if not dataset.spec.has_side_features:
        senseless.add(ContentBased)
    return [
        instantiate(node, _partial_=True)(dataset)
        for node in config.values()
        if get_object(node._target_) not in senseless
    ]
