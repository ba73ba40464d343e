"""How many processes the trainer believes in, and what they send each other."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
from pytorch_lightning import Callback

from roomrec.errors import ConfigurationError
from tests.processes import run_jobs
from tests.runs import config_of
from tests.training.test_train import small_config
from training import preprocess
from training.train import run
from training.trainer import started_by_launcher


@pytest.fixture
def launched(monkeypatch):
    """Be a process that torchrun has started."""

    def start(*, local: int, world: int) -> None:
        monkeypatch.setenv("TORCHELASTIC_RUN_ID", "test")
        monkeypatch.setenv("LOCAL_WORLD_SIZE", str(local))
        monkeypatch.setenv("WORLD_SIZE", str(world))

    return start


@pytest.mark.parametrize(
    ("local", "world", "expected"), [(1, 1, (1, 1)), (2, 2, (2, 1)), (1, 3, (1, 3)), (2, 6, (2, 3))]
)
def test_processes_of_a_node_and_nodes(launched, local, world, expected):
    launched(local=local, world=world)
    assert started_by_launcher() == expected


def test_nodes_with_different_numbers_of_processes_are_refused(launched):
    launched(local=2, world=3)
    with pytest.raises(
        ConfigurationError, match=r"3 processes were started, 2 of them on this node.*nproc-per-node.*num_workers"
    ):
        started_by_launcher()


class _Buffers(Callback):
    """Writes down the buffers as each process makes them and as training leaves them, and whether DDP sends them."""

    def __init__(self) -> None:
        self.found: dict[str, Any] = {}

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        self.found["made"] = _contents(pl_module)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        self.found["trained"] = _contents(pl_module)
        self.found["sent"] = trainer.strategy.model.will_sync_module_buffers()


def _contents(module: Any) -> dict[str, str]:
    filled = {name: value for name, value in module.named_buffers() if value.any()}
    return {name: hashlib.sha256(value.numpy().tobytes()).hexdigest() for name, value in filled.items()}


def train_with_ddp(*, dataset: str, data_dir: str, out: str, overrides: list[str]) -> None:
    """Run the job; every process writes what it knows of buffers to ``<out>-<rank>.json``."""
    buffers = _Buffers()
    settings = ("trainer=ddp", "trainer.accelerator=cpu", "trainer.precision=32-true", "trainer.num_workers=0")
    run(small_config(Path(dataset), Path(data_dir), *settings, *overrides), callbacks=[buffers])
    Path(f"{out}-{os.environ['RANK']}.json").write_text(json.dumps(buffers.found))


@pytest.fixture
def described_dataset(tmp_path) -> Path:
    """A shop log whose products have attributes."""
    log, attributes = tmp_path / "log.txt", tmp_path / "attributes.json"
    log.write_text(
        "".join(f"{user} {' '.join(str((user + place) % 12) for place in range(9))}\n" for user in range(60))
    )
    attributes.write_text(json.dumps({str(product): [product % 3] for product in range(12)}))
    source = {"source": "s3rec_text", "source.path": log, "source.attributes_path": attributes}
    preprocess.run(config_of("preprocess", output_dir=tmp_path, name="described", **source))
    return tmp_path / "described"


@pytest.mark.slow
def test_buffers_are_equal_in_all_processes_and_sent_by_none(described_dataset, markov_dataset, tmp_path):
    cases = {
        "catalogue": (described_dataset, ["model=sasrec"]),
        "folded": (markov_dataset, ["model=two_tower_graph"]),
    }
    run_jobs(
        *(
            {
                "num_processes": 2,
                "call": "tests.training.test_trainer:train_with_ddp",
                "with": {
                    "dataset": str(dataset),
                    "data_dir": str(tmp_path / name),
                    "out": str(tmp_path / name),
                    "overrides": overrides,
                },
            }
            for name, (dataset, overrides) in cases.items()
        )
    )
    for name in cases:
        first, second = (json.loads((tmp_path / f"{name}-{rank}.json").read_text()) for rank in (0, 1))
        assert first["made"]
        assert first == second
        assert first["sent"] is False
