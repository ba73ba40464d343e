"""``launcher=ray``: the training job in the workers of Ray Train, as in the processes of torchrun."""

import contextlib
import io
import logging
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from omegaconf import DictConfig, OmegaConf

from roomrec.errors import ConfigurationError, RoomRecError
from training.run_folder import TrainingInterrupted, leads
from training.settings import check_whole_number

if TYPE_CHECKING:
    from training.train import TrainingResult

ON_THIS_MACHINE: Final = "local"
"""The ``launcher.address`` that starts workers on this machine alone."""

_ENVIRONMENT: Final = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",
}
"""Set before Ray is imported, unless the caller has set them: workers at normal priority, no device where none is
reserved."""

_ROOT: Final = Path(__file__).parents[1]
_LOOK_EVERY_S: Final = 0.3


class Mailbox:
    """An actor between the person and the workers: "please stop" goes there, what training says comes back."""

    def __init__(self) -> None:
        self._asked = False
        self._said: list[str] = []

    def ask_to_stop(self) -> None:
        """Ask."""
        self._asked = True

    def is_asked_to_stop(self) -> bool:
        """Say whether somebody asked."""
        return self._asked

    def say(self, text: str) -> None:
        """Keep what training writes on stderr."""
        self._said.append(text)

    def take_said(self) -> str:
        """Return what was said since the last time."""
        said, self._said = "".join(self._said), []
        return said


def launch_on_ray(
    config: DictConfig, *, num_workers: int, cpus_per_worker: int, use_gpu: bool, address: str
) -> "TrainingResult":
    """Run ``training.train`` in the workers of a cluster.

    Every node has this checkout and its environment at the same place, and ``data_dir`` on a disk that all nodes see.

    Args:
        config: Of the job.
        num_workers: Processes, each with one device.
        cpus_per_worker: CPUs that each reserves.
        use_gpu: Whether each gets a GPU.
        address: ``local`` for this machine alone, or the cluster as ``ray.init`` takes it.

    Returns:
        What the job returns in the worker that leads.

    Raises:
        ConfigurationError: If Ray Train is not installed, the cluster cannot be reached or this machine is too small.
        RoomRecError: What the job raised.
        TrainingInterrupted: After Ctrl-C, when everything is saved.
    """
    from training.opening import open_job

    for key in ("launcher.num_workers", "launcher.cpus_per_worker"):
        check_whole_number(config, key, at_least=1)
    open_job(config)  # so that most mistakes are answered before Ray starts
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        import ray
        from ray.train import RunConfig, ScalingConfig, WorkerGroupError
        from ray.train.torch import TorchTrainer
    except ImportError as error:
        raise ConfigurationError("launcher=ray needs Ray Train: pip install -e '.[cluster]'") from error

    resources = {"CPU": cpus_per_worker} | ({"GPU": 1} if use_gpu else {})
    data_dir = Path(config.data_dir).resolve()
    data_dir.mkdir(parents=True, exist_ok=True)
    with _cluster(address), tempfile.TemporaryDirectory(prefix=".ray-train-", dir=data_dir) as storage:
        _check_size(num_workers, resources, address)
        mailbox = ray.remote(num_cpus=0)(Mailbox).remote()
        trainer = TorchTrainer(
            work,
            train_loop_config={
                "config": OmegaConf.to_container(config, resolve=True),
                "folder": str(Path.cwd()),
                "mailbox": mailbox,
            },
            scaling_config=ScalingConfig(num_workers=num_workers, use_gpu=use_gpu, resources_per_worker=resources),
            run_config=RunConfig(storage_path=storage),
        )
        try:
            outcome = _fit(trainer, mailbox)
        except WorkerGroupError as error:
            mistakes = [one for one in error.worker_failures.values() if isinstance(one, RoomRecError)]
            raise mistakes[0] if mistakes else error from None
    if isinstance(outcome, TrainingInterrupted):
        raise outcome
    result: TrainingResult = outcome
    return result


def work(settings: dict[str, Any]) -> "TrainingResult | TrainingInterrupted":
    """Run the job in one worker.

    Args:
        settings: ``config`` of the job, the ``folder`` it was started in, the ``mailbox``.
    """
    os.chdir(settings["folder"])
    # Ray Train has set what torchrun sets, but for what Lightning recognises torchrun by.
    os.environ.update(TORCHELASTIC_RUN_ID="ray", GROUP_RANK=os.environ["NODE_RANK"])
    import ray

    from training.callbacks.stop_when_asked import StopWhenAsked
    from training.train import run

    mailbox = settings["mailbox"]
    callbacks = []
    if leads():
        sys.stderr = _Relay(mailbox)
        callbacks = [StopWhenAsked(lambda: bool(ray.get(mailbox.is_asked_to_stop.remote())))]
    try:
        return run(OmegaConf.create(settings["config"]), callbacks=callbacks)
    except TrainingInterrupted as interruption:
        return interruption  # raised, it would be a failure to Ray


class _Relay(io.TextIOBase):
    """A stderr whose text goes to the person who started training."""

    def __init__(self, mailbox: Any) -> None:
        self._mailbox = mailbox

    def write(self, text: str) -> int:
        self._mailbox.say.remote(text)
        return len(text)


@contextlib.contextmanager
def _cluster(address: str) -> Iterator[None]:
    """Connect, and disconnect in the end; what was started on this machine is stopped."""
    import ray

    # Workers import this checkout wherever Ray starts them.
    paths = os.pathsep.join([str(_ROOT), str(_ROOT / "src")])
    try:
        ray.init(
            address=address,
            include_dashboard=False if address == ON_THIS_MACHINE else None,
            log_to_driver=False,
            logging_level=logging.ERROR,
            runtime_env={"env_vars": {"PYTHONPATH": paths}},
        )
    except Exception as error:  # which Ray raises where a node does not start in time
        raise ConfigurationError(
            f"launcher.address is {address!r}: {str(error).strip().splitlines()[0]} (local starts workers on this "
            "machine, auto finds the cluster it belongs to, host:port is another)"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _check_size(num_workers: int, resources: dict[str, int], address: str) -> None:
    """Refuse to wait for ever for what this machine does not have; a cluster may grow, so there it is said."""
    import ray

    has = ray.cluster_resources()
    for name, each in resources.items():
        needed, there = num_workers * each, int(has.get(name, 0))
        if needed > there:
            problem = f"launcher.num_workers={num_workers} needs {needed} {name}s, there are {there}"
            if address == ON_THIS_MACHINE:
                raise ConfigurationError(f"{problem} on this machine: take fewer, or the launcher.address of a cluster")
            sys.stderr.write(f"{problem} in the cluster now: waiting for more\n")


def _fit(trainer: Any, mailbox: Any) -> Any:
    """Train, and repeat here what training says; return what the leading worker returned."""
    import ray

    ended: dict[str, Any] = {}

    def fit() -> None:
        try:
            ended["value"] = trainer.fit().return_value
        except BaseException as error:
            ended["error"] = error

    # Not in the main thread, where Ray would answer Ctrl-C by ending the workers.
    thread = threading.Thread(target=fit, daemon=True)
    with _asking_to_stop(mailbox):
        thread.start()
        while thread.is_alive():
            thread.join(timeout=_LOOK_EVERY_S)
            sys.stderr.write(ray.get(mailbox.take_said.remote()))
    if "error" in ended:
        raise ended["error"]
    return ended["value"]


@contextlib.contextmanager
def _asking_to_stop(mailbox: Any) -> Iterator[None]:
    """While it is entered, the first Ctrl-C asks the workers to save and stop, the second stops at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    asked = False

    def ask(number: int, frame: Any) -> None:
        nonlocal asked
        if asked:
            raise TrainingInterrupted("stopped at once, only finished epochs are saved")
        asked = True
        mailbox.ask_to_stop.remote()

    previous = signal.signal(signal.SIGINT, ask)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
