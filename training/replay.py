"""Goes once more through the step at which training stopped: ``python -m training.replay batch=<file>``."""

import math
from pathlib import Path
from typing import NamedTuple

import hydra
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Table

from roomrec.errors import ConfigurationError
from roomrec.sequences.dataset import ProcessedDataset
from training.configuration import check_command_line, check_missing, one_sentence_errors
from training.run_folder import LAST_CHECKPOINT
from training.settings import require_dataset


class ReplayedStep(NamedTuple):
    """What came out of the step."""

    reason: str
    """why training stopped there"""
    loss: float
    gradient_norm: float
    weights_from: str
    """where the weights came from"""
    gradients: dict[str, tuple[float, float]]
    """parameter name to the largest weight and the norm of the gradient, worst first"""


def run(config: DictConfig) -> ReplayedStep:
    """Replay a saved batch with the weights before it.

    Args:
        config: ``configs/replay.yaml``, composed.

    Raises:
        ConfigurationError: If there is no such file, or it does not lie in the folder of its run.
        DatasetError: If the step needs the run's dataset, and that is missing or has changed.
        TrainingError: If the file holds something else.
    """
    check_missing(config)
    path = Path(config.batch)
    folder = path.parent.parent
    if not path.is_file():
        raise ConfigurationError(f"batch={path}: there is no such file; a stopped run names the one it saved")
    if not (folder / "config.yaml").exists():
        raise ConfigurationError(f"batch={path}: expected it in stopped/ of its run, but {folder} has no config.yaml")
    import torch
    from hydra.utils import get_class

    from roomrec.models.graph_two_tower import GraphTwoTower
    from training.assembly import make_module
    from training.callbacks.bad_loss import gradient_norm
    from training.modules.recommender import step_seed
    from training.run_folder import check_same_dataset, spec_of_run
    from training.saved_batch import load_batch

    saved = load_batch(path)
    run_config = OmegaConf.load(folder / "config.yaml")
    assert isinstance(run_config, DictConfig)
    run_config.trainer.strategy = "auto"  # in one process, with whole tables
    weights, weights_from = saved.weights, "the step itself"
    if weights is None and (folder / LAST_CHECKPOINT).exists():
        state = torch.load(folder / LAST_CHECKPOINT, map_location="cpu", weights_only=True)["state_dict"]
        weights = {name[len("model.") :]: value for name, value in state.items() if name.startswith("model.")}
        weights_from = str(folder / LAST_CHECKPOINT)
    dataset = None
    if weights is None or get_class(run_config.model._target_) is GraphTwoTower:  # what saved weights do not tell
        dataset_folder = require_dataset(run_config.dataset, Path(run_config.data_dir))
        check_same_dataset(folder, dataset_folder)
        dataset = ProcessedDataset.open(dataset_folder)
    module = make_module(run_config, spec_of_run(folder), dataset=dataset)
    if weights is None:
        weights_from = "the start of the run"
    else:
        module.model.load_state_dict(weights)
    module.train()
    torch.manual_seed(step_seed(saved.seed, saved.global_step, saved.rank))
    with torch.autocast("cpu", torch.bfloat16, enabled=saved.precision.startswith("bf16")):
        loss = module.loss_of(saved.batch)
    loss.backward()
    found = {
        name: (float(weight.detach().abs().max()), float(gradient_norm([weight])))
        for name, weight in module.model.named_parameters()
        if weight.grad is not None
    }
    worst_first = sorted(found, key=lambda name: -found[name][1] if math.isfinite(found[name][1]) else -math.inf)
    return ReplayedStep(
        reason=saved.reason,
        loss=float(loss.detach()),
        gradient_norm=float(gradient_norm(module.parameters())),
        weights_from=weights_from,
        gradients={name: found[name] for name in worst_first},
    )


@hydra.main(version_base="1.3", config_path="../configs", config_name="replay")
def main(config: DictConfig) -> None:
    """Replay, and show what every parameter got."""
    with one_sentence_errors():
        step = run(config)
        console = Console(stderr=True, soft_wrap=True, highlight=False)
        console.print(f"training stopped because {step.reason}; replayed with the weights of {step.weights_from}")
        table = Table("parameter", "largest weight", "norm of gradient")
        for name, (largest, norm) in list(step.gradients.items())[: config.num_shown]:
            table.add_row(name, f"{largest:.4g}", f"{norm:.4g}")
        console.print(table)
        console.print(f"loss {step.loss:.6g}, norm of all gradients {step.gradient_norm:.6g}")


if __name__ == "__main__":
    check_command_line("replay")
    main()
