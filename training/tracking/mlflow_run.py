"""An MLflow run for each training run: in a SQLite file, or on a tracking server."""

import contextlib
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from filelock import FileLock
from pytorch_lightning.loggers import MLFlowLogger

from training.tracking.run_ids import remember_id, remembered_id

LONGEST_PARAMETER: Final = 250
"""Characters of a value that Lightning's logger keeps."""

_LOCAL_FILE: Final = "sqlite:///"


def mlflow_run(*, folder: Path, resume: bool, uri: str, experiment: str) -> MLFlowLogger:
    """Start an MLflow run of the folder's name, or go on with the one it had.

    MLflow allows no ``@`` in names of metrics: ``val_ndcg@10`` is ``val_ndcg10`` there.

    Args:
        folder: The run's, which exists.
        resume: Whether the run continues.
        uri: ``sqlite:///<file>``, made if there is none, or the address of a tracking server.
        experiment: What MLflow is to list the run under, made if there is none.
    """
    # It says on stderr that it makes tables and an experiment, both of which were asked for.
    for name in ("mlflow", "alembic", "pytorch_lightning.loggers.mlflow"):
        logging.getLogger(name).setLevel(logging.ERROR)
    run_id = remembered_id(folder, "mlflow") if resume else None
    with _one_at_a_time(uri):
        logger = MLFlowLogger(
            experiment_name=experiment,
            run_name=folder.name,
            tracking_uri=uri,
            artifact_location=_beside(uri),
            run_id=run_id,
        )
        client = logger.experiment
    assert logger.run_id is not None
    if run_id is not None:
        client.update_run(run_id, status="RUNNING")
    remember_id(folder, "mlflow", logger.run_id)
    return logger


def record_parameters(logger: MLFlowLogger, parameters: Mapping[str, Any]) -> None:
    """Write parameters; what a resumed run has changed becomes a tag, since MLflow never changes a parameter.

    Args:
        logger: Of the run.
        parameters: By dotted name.
    """
    client = logger.experiment
    before = client.get_run(logger.run_id).data.params
    logger.log_hyperparams({key: value for key, value in parameters.items() if key not in before})
    for key, value in parameters.items():
        if before.get(key, now := str(value)[:LONGEST_PARAMETER]) != now:
            client.set_tag(logger.run_id, f"resumed.{key}", now)


@contextlib.contextmanager
def _one_at_a_time(uri: str) -> Iterator[None]:
    """Of several processes that start on a new SQLite file, one makes its tables."""
    if not uri.startswith(_LOCAL_FILE):
        yield
        return
    file = Path(uri.removeprefix(_LOCAL_FILE))
    file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(file.with_suffix(".lock")):
        yield


def _beside(uri: str) -> str | None:
    """Where artifacts go: beside a SQLite file, or where the server says."""
    if not uri.startswith(_LOCAL_FILE):
        return None
    return (Path(uri.removeprefix(_LOCAL_FILE)).absolute().parent / "artifacts").as_uri()
