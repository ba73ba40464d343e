"""What a run trains with, put together from its config: batches, and the module with model, loss and optimiser."""

import numpy as np
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig

from roomrec.batches.batch import ChosenItems
from roomrec.batches.collate import collate_items
from roomrec.errors import ConfigurationError
from roomrec.features.spec import FeatureSpec
from roomrec.ids import FIRST_INDEX
from roomrec.losses.cosine_contrastive import CosineContrastive
from roomrec.losses.user_softmax import LARGEST_LOGIT, UserSoftmax
from roomrec.models.graph import InteractionGraph
from roomrec.models.graph_two_tower import GraphTwoTower
from roomrec.models.sasrec import SASRec
from roomrec.sequences.dataset import ProcessedDataset
from training.datamodule import BatchSource
from training.modules.recommender import RecommenderModule, stepped_parameters
from training.settings import mistakes_in
from training.sharding.settings import is_sharded, without_big_tables


def make_source(config: DictConfig, dataset: ProcessedDataset) -> BatchSource:
    """Make the training batches of a config.

    Args:
        config: ``configs/train.yaml``, composed.
        dataset: What to learn from.

    Raises:
        ConfigurationError: If a library refuses a value.
        DatasetError: If there is nothing to learn from.
    """
    with mistakes_in("negatives"):
        negatives = instantiate(config.negatives, _partial_=True)(dataset=dataset)
    with mistakes_in("batches"):
        source: BatchSource = instantiate(config.batches, _partial_=True)(
            dataset=dataset, negatives=negatives, seed=config.seed
        )
    return source


COMPILE_MODES = ("default", "reduce-overhead", "max-autotune")
"""Of ``torch.compile``; the last two use CUDA graphs."""


def compile_blocks(model: torch.nn.Module, *, mode: str | None) -> None:
    """Have the blocks of a sequence model compiled at their first step; names in checkpoints stay the same.

    Args:
        model: To be trained. The average of its weights, where one is kept, is a copy, which stays as it is; with
            ``average_epochs=0`` the compiled blocks themselves are evaluated.
        mode: One of ``COMPILE_MODES``; None compiles nothing.

    Raises:
        ConfigurationError: If the mode is unknown or the model is no sequence model.
    """
    if mode is None:
        return
    if mode not in COMPILE_MODES:
        raise ConfigurationError(f"compile is {mode!r}: choose one of {', '.join(COMPILE_MODES)}, or null")
    if not isinstance(model, SASRec):
        raise ConfigurationError(f"compile is {mode!r}, but a {type(model).__name__} has no blocks: pass compile=null")
    for block in model.user_encoder.blocks:
        block.compile(mode=mode, dynamic=True)


def make_module(config: DictConfig, spec: FeatureSpec, *, dataset: ProcessedDataset | None = None) -> RecommenderModule:
    """Make the module of a config, its weights drawn from the run's seed.

    Args:
        config: ``configs/train.yaml``, composed.
        spec: Cardinalities of the features.
        dataset: Where the model learns what its products are like, or who took them; not needed where saved weights
            follow.

    Raises:
        ConfigurationError: If a library refuses a value.
    """
    torch.manual_seed(config.seed)
    with mistakes_in("model"), without_big_tables(config):
        model = instantiate(config.model, _partial_=True)(spec=spec)
    if isinstance(model, GraphTwoTower) and is_sharded(config):
        raise ConfigurationError(
            "trainer=sharded splits tables, model=two_tower_graph smooths whole ones: use trainer=ddp"
        )
    if dataset is not None and isinstance(model, SASRec) and spec.has_side_features:
        model.describe_products(collate_items(dataset.items, np.arange(spec.num_products)))
    if dataset is not None and isinstance(model, GraphTwoTower):
        model.connect(
            InteractionGraph.of_training(
                dataset.histories, num_users=max(spec.num_users, FIRST_INDEX), num_products=spec.num_products
            )
        )
    optimizer = instantiate(config.optimizer, _partial_=True)
    with mistakes_in("optimizer"):
        optimizer(stepped_parameters(model))
    with mistakes_in("loss"):
        loss = instantiate(config.loss)
    return RecommenderModule(
        model=model,
        loss=loss,
        optimizer=optimizer,
        seed=config.seed,
        warmup_steps=config.warmup_steps,
        average_epochs=config.average_epochs,
    )


def check_fit(module: RecommenderModule, source: BatchSource) -> None:
    """Refuse a model, a loss and batches that do not go together.

    Args:
        module: Model and loss.
        source: Batches.

    Raises:
        ConfigurationError: With what to choose instead.
    """
    model, loss, batches = (type(part).__name__ for part in (module.model, module.loss, source))
    if source.batch_type is not module.model.batch_type:
        raise ConfigurationError(
            f"batches._target_ is {batches}, which a {model} cannot read: leave it as model=... sets it"
        )
    if source.candidates_type is not module.loss.candidates_type:
        one = "one target an example: choose loss=softmax, or model=two_tower_graph, which learns of whole users"
        many = "all targets of a user at once: choose loss=user_softmax or loss=cosine_contrastive"
        raise ConfigurationError(
            f"loss._target_ is {loss}, which cannot read the batches of this model: {batches} have "
            f"{many if source.candidates_type is ChosenItems else one}"
        )
    temperature = getattr(module.model, "temperature", 1.0)
    if isinstance(module.loss, CosineContrastive) and temperature != 1.0:
        raise ConfigurationError(
            f"model.temperature is {temperature}, but loss=cosine_contrastive takes cosines as they are: pass "
            "model.temperature=1"
        )
    if isinstance(module.loss, UserSoftmax) and temperature * LARGEST_LOGIT < 1.0:
        raise ConfigurationError(
            f"model.temperature is {temperature}, and exponentials of cosines over it are too large for "
            f"loss=user_softmax: pass at least {1.0 / LARGEST_LOGIT}"
        )
