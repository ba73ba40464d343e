"""Where metrics go, and what every run records."""

import csv
import json
import os
import re
import signal
import struct
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from pytorch_lightning import Callback
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from roomrec.errors import ConfigurationError
from roomrec.sequences.fingerprint import dataset_fingerprint
from tests.runs import config_of
from tests.training.test_train import small_config
from training import trainer as trainer_module
from training.run_folder import TrainingInterrupted
from training.train import run

needs_mlflow = pytest.mark.skipif(find_spec("mlflow") is None, reason="needs mlflow: pip install -e '.[tracking]'")
needs_wandb = pytest.mark.skipif(find_spec("wandb") is None, reason="needs wandb: pip install -e '.[tracking]'")


def test_every_run_says_what_it_stands_on(markov_dataset, tmp_path):
    result = run(small_config(markov_dataset, tmp_path, "max_epochs=1"))
    described = json.loads((result.folder / "environment.json").read_text())
    assert re.fullmatch(r"[0-9a-f]{7,40}(\+changes)?", described["code_revision"])
    assert described["dataset"]["fingerprint"] == dataset_fingerprint(markov_dataset)
    assert set(described["hardware"]) == {"cpu", "cores", "memory_bytes", "gpus"}
    assert described["hardware"]["memory_bytes"] > 10**8
    assert {"torch", "pytorch-lightning", "rich", "omegaconf"} <= set(described["packages"])
    assert described["threads"] >= 1


def test_tensorboard_knows_the_settings_and_shows_the_metric_beside_them(markov_dataset, tmp_path):
    result = run(small_config(markov_dataset, tmp_path, "max_epochs=2"))
    log = EventAccumulator(str(result.folder / "tensorboard")).Reload()
    assert len(log.Scalars("val_ndcg@10")) == 2  # and no made-up value before the first epoch
    assert "hp_metric" not in log.Tags()["scalars"]
    plugin = log.summary_metadata["_hparams_/session_start_info"].plugin_data
    assert b"model.dropout_rate" in plugin.content
    assert b"environment.dataset.fingerprint" in plugin.content


def test_one_word_leaves_a_tracker_out(markov_dataset, tmp_path):
    result = run(small_config(markov_dataset, tmp_path, "max_epochs=1", "~tracking.tensorboard"))
    assert sorted(path.name for path in result.folder.iterdir()) == [
        "checkpoints",
        "config.yaml",
        "environment.json",
        "metrics.csv",
        "vocabulary.parquet",
    ]


@pytest.mark.parametrize(("word", "package"), [("mlflow", "mlflow-skinny"), ("wandb", "wandb")])
def test_a_package_that_is_missing_is_named_before_anything_is_written(
    word, package, markov_dataset, tmp_path, monkeypatch
):
    monkeypatch.setattr("training.tracking.check.find_spec", lambda name: None)
    with pytest.raises(
        ConfigurationError, match=rf"tracking={word} needs the package {package}: pip install .*tracking"
    ):
        run(small_config(markov_dataset, tmp_path, f"tracking={word}"))
    assert list(tmp_path.iterdir()) == []


def test_a_password_in_an_address_is_refused_and_not_repeated(markov_dataset, tmp_path, monkeypatch):
    monkeypatch.setattr("training.tracking.check.find_spec", lambda name: name)
    with pytest.raises(ConfigurationError, match="MLFLOW_TRACKING_PASSWORD") as caught:
        run(small_config(markov_dataset, tmp_path, "tracking=mlflow", "tracking.mlflow.uri='http://me:secret@host'"))
    assert "secret" not in str(caught.value)


def test_without_a_server_named_mlflow_writes_below_the_data_folder(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    config = config_of("train", tracking="mlflow", data_dir="/some/where")
    assert config.tracking.mlflow.uri == "sqlite:////some/where/mlflow/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracker:5000")
    assert config_of("train", tracking="mlflow").tracking.mlflow.uri == "http://tracker:5000"


class _CtrlC(Callback):
    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == 7:
            os.kill(os.getpid(), signal.SIGINT)


def interrupt(monkeypatch, *arguments: object) -> None:
    """Train, and press Ctrl-C in the second epoch."""
    build = trainer_module.build_trainer

    def build_and_press(*args, **kwargs):
        trainer = build(*args, **kwargs)
        trainer.callbacks.insert(0, _CtrlC())
        return trainer

    with monkeypatch.context() as patch:
        patch.setattr(trainer_module, "build_trainer", build_and_press)
        with pytest.raises(TrainingInterrupted):
            run(small_config(*arguments))


@needs_mlflow
def test_mlflow_has_one_run_for_a_run_that_was_interrupted(markov_dataset, tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    settings = ("tracking=mlflow", "batches.batch_size=50")
    interrupt(monkeypatch, markov_dataset, tmp_path, *settings)
    result = run(small_config(markov_dataset, tmp_path, *settings, "resume=true", "max_epochs=3"))

    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow/mlflow.db")
    [found] = client.search_runs([client.get_experiment_by_name("roomrec").experiment_id])
    assert (found.info.run_name, found.info.status) == ("tiny", "FINISHED")
    history = client.get_metric_history(found.info.run_id, "val_ndcg10")
    rows = list(csv.DictReader((result.folder / "metrics.csv").read_text().splitlines()))
    assert [round(entry.value, 5) for entry in history] == [
        round(float(row["val_ndcg@10"]), 5) for row in rows if row["val_ndcg@10"]
    ]
    assert len(history) == 3
    described = json.loads((result.folder / "environment.json").read_text())
    parameters = found.data.params
    assert parameters["model.embedding_dim"] == "8"
    assert parameters["environment.code_revision"] == described["code_revision"]
    assert parameters["environment.dataset.fingerprint"] == described["dataset"]["fingerprint"]
    assert parameters["environment.hardware.cores"] == str(described["hardware"]["cores"])
    assert parameters["max_epochs"] == "2"  # as it began
    assert found.data.tags["resumed.max_epochs"] == "3"


@needs_mlflow
def test_a_tracking_server_that_is_not_there_is_said_in_a_sentence(markov_dataset, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(ConfigurationError, match=r"tracking\.mlflow: .*http://127\.0\.0\.1:9"):
        run(small_config(markov_dataset, tmp_path, "tracking=mlflow", "tracking.mlflow.uri='http://127.0.0.1:9'"))


@needs_wandb
def test_wandb_offline_keeps_runs_apart_and_goes_on_with_one_that_was_interrupted(
    markov_dataset, tmp_path, monkeypatch
):
    monkeypatch.setenv("WANDB_API_KEY", "a-secret-of-forty-characters-0123456789ab")
    settings = ("tracking=wandb", "tracking.wandb.offline=true", "batches.batch_size=50")
    interrupt(monkeypatch, markov_dataset, tmp_path, *settings)
    first = run(small_config(markov_dataset, tmp_path, *settings, "resume=true"))
    other = run(small_config(markov_dataset, tmp_path, *settings, "name=other", "max_epochs=1"))

    ids = [json.loads((result.folder / "tracking.json").read_text())["wandb"] for result in (first, other)]
    assert ids[0] != ids[1]
    parts = sorted((first.folder / "wandb").glob("offline-run-*"))
    assert [part.name.rpartition("-")[2] for part in parts] == [ids[0], ids[0]]
    history, config = read_wandb(parts[1])
    assert [entry["trainer/global_step"] for entry in history if "val_ndcg@10" in entry] == [11]
    assert config["model"]["embedding_dim"] == 8
    assert config["environment"]["dataset"]["fingerprint"] == dataset_fingerprint(markov_dataset)
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert b"a-secret-of-forty" not in written


def read_wandb(folder: Path) -> tuple[list[dict], dict]:
    """Logged steps and the config of an offline run, from its file."""
    from wandb.proto import wandb_internal_pb2

    history, config = [], {}
    for data in leveldb_records(next(folder.glob("run-*.wandb")).read_bytes()[7:]):
        record = wandb_internal_pb2.Record.FromString(data)
        if record.HasField("history"):
            items = record.history.item
            history.append({item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items})
        for update in (record.run.config.update, record.config.update):
            config |= {item.key or item.nested_key[0]: json.loads(item.value_json) for item in update}
    return history, config


def leveldb_records(data: bytes) -> Iterator[bytes]:
    """Records of a LevelDB log: blocks of 32 KiB, the first 7 bytes of the file being W&B's; checksums are ignored."""
    place, parts = 0, []
    while place + 7 <= len(data):
        left = 32_768 - (place + 7) % 32_768
        if left < 7:
            place += left
            continue
        length, kind = struct.unpack_from("<HB", data, place + 4)
        parts.append(data[place + 7 : place + 7 + length])
        place += 7 + length
        if kind in (1, 4):  # a whole one, or the last part of one
            yield b"".join(parts)
            parts = []


def test_nothing_of_a_tracker_is_loaded_unless_it_was_chosen(markov_dataset, tmp_path, monkeypatch):
    for name in ("mlflow", "wandb"):
        monkeypatch.setitem(sys.modules, name, None)  # importing it fails
    assert run(small_config(markov_dataset, tmp_path, "max_epochs=1")).epochs == 1
