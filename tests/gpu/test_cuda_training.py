"""Training on a CUDA device: bf16, fused optimiser, pinned copies."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from roomrec.sequences.dataset import ProcessedDataset
from tests.training.test_train import small_config
from training.assembly import make_source
from training.datamodule import BatchDataModule
from training.run_folder import load_trained_model
from training.train import run

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.mark.parametrize("model", ["sasrec", "two_tower"])
@pytest.mark.parametrize("world", ["markov_dataset", "live_dataset"])
def test_the_gpu_trainer_trains(request, tmp_path, model, world):
    config = small_config(request.getfixturevalue(world), tmp_path, f"model={model}", "trainer=gpu")
    config.trainer.num_workers = 0
    result = run(config)
    assert result.metrics["train_loss_epoch"] > 0
    assert result.best > 0


@pytest.mark.parametrize("mode", ["default", "reduce-overhead"])
def test_compiled_blocks_reach_the_loss_of_eager_ones(markov_dataset, tmp_path, mode):
    settings = ("model.dropout_rate=0", "trainer=gpu", "max_epochs=2")
    losses = [
        run(small_config(markov_dataset, tmp_path, f"name={name}", *settings, f"compile={name}")).metrics[
            "train_loss_epoch"
        ]
        for name in ("null", mode)
    ]
    assert losses[1] == pytest.approx(losses[0], rel=0.01)


def test_bf16_reaches_nearly_the_loss_of_float32(markov_dataset, tmp_path):
    losses = [
        run(small_config(markov_dataset, tmp_path, f"name={name}", "model.dropout_rate=0", f"trainer={name}")).metrics[
            "train_loss_epoch"
        ]
        for name in ("cpu", "gpu")
    ]
    assert losses[1] == pytest.approx(losses[0], rel=0.02)


def test_a_model_trained_on_the_gpu_is_read_on_the_cpu(markov_dataset, tmp_path):
    result = run(small_config(markov_dataset, tmp_path, "trainer=gpu"))
    model = load_trained_model(result.folder).model
    assert {parameter.device.type for parameter in model.parameters()} == {"cpu"}


def test_workers_give_the_batches_of_the_main_process(markov_dataset, tmp_path):
    losses = []
    for workers in (0, 2):
        config = small_config(markov_dataset, tmp_path, f"name=workers{workers}", "trainer=gpu")
        config.trainer.num_workers = workers
        losses.append(run(config).metrics["train_loss_epoch"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


@pytest.mark.filterwarnings("ignore:Synchronization debug mode")
@pytest.mark.parametrize("model", ["sasrec", "two_tower", "two_tower_graph"])
def test_batches_are_pinned_and_copied_without_waiting(markov_dataset, tmp_path, model):
    config = small_config(markov_dataset, tmp_path, f"model={model}")
    module: Any = BatchDataModule(source=make_source(config, ProcessedDataset.open(markov_dataset)), num_workers=0)
    module.trainer = SimpleNamespace(global_rank=0, world_size=1, global_step=0)
    batch = next(iter(module.train_dataloader()))
    widest = batch.history.product_index if model == "sasrec" else batch.features.values()
    assert widest.is_pinned()
    assert batch.candidates.positive.is_pinned()
    device = torch.device("cuda", 0)
    torch.zeros(1, device=device)  # what CUDA does once
    torch.cuda.set_sync_debug_mode("error")
    try:
        moved = module.transfer_batch_to_device(batch, device, 0)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    there = moved.history.product_index if model == "sasrec" else moved.features.values()
    assert torch.equal(there.cpu(), widest)
