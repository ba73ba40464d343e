"""Split tables on a CUDA device: the process group is NCCL's, rows lie in GPU memory, checkpoints on the CPU."""

import pytest
import torch

from tests.sharded_jobs import config_of
from training.run_folder import LAST_CHECKPOINT, load_trained_model
from training.train import run

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.mark.parametrize("optimizer", ["rowwise_adagrad", "adam", "rowwise_adam"])
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_tables_on_the_gpu_train(markov_dataset, tmp_path, optimizer, precision):
    config = config_of(str(markov_dataset), str(tmp_path), "model=two_tower", "name=run", "max_epochs=2")
    config.trainer.update(devices=1, precision=precision)
    config.trainer.tables.update(optimizer=optimizer, min_rows=1)
    result = run(config)
    assert result.metrics["train_loss_epoch"] > 0
    assert {value.device.type for value in load_trained_model(result.folder).model.parameters()} == {"cpu"}


def test_a_model_with_dense_layers_is_validated_and_saved_on_the_cpu(markov_dataset, tmp_path):
    config = config_of(str(markov_dataset), str(tmp_path), "model=sasrec", "name=run", "max_epochs=2")
    config.trainer.devices = 1
    config.trainer.tables.min_rows = 1
    result = run(config)
    assert 0 < result.best <= 1
    saved = torch.load(result.folder / LAST_CHECKPOINT, weights_only=True)
    assert {value.device.type for value in saved["state_dict"].values()} == {"cpu"}


def test_the_gpu_reaches_the_loss_of_the_cpu(markov_dataset, tmp_path):
    losses = []
    for accelerator in ("cpu", "gpu"):
        config = config_of(str(markov_dataset), str(tmp_path), "model=two_tower", f"name={accelerator}", "max_epochs=2")
        config.trainer.update(accelerator=accelerator, devices=1)
        losses.append(run(config).metrics["train_loss_epoch"])
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)


def test_a_run_of_the_cpu_goes_on_on_the_gpu(markov_dataset, tmp_path):
    overrides = ["model=two_tower", "name=run"]
    config = config_of(str(markov_dataset), str(tmp_path), *overrides, "max_epochs=1")
    config.trainer.update(accelerator="cpu", devices=1)
    first = run(config)
    config = config_of(str(markov_dataset), str(tmp_path), *overrides, "max_epochs=2", "resume=true")
    config.trainer.update(accelerator="gpu", devices=1)
    assert run(config).steps == 2 * first.steps
    saved = torch.load(first.folder / LAST_CHECKPOINT, weights_only=True)
    assert {value.device.type for value in saved["state_dict"].values()} == {"cpu"}
