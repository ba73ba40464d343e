"""Several processes at work on one sweep: started, watched, stopped in order."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from roomrec.errors import ConfigurationError
from training.configuration import INTERRUPTED_EXIT_CODE
from training.run_folder import TrainingInterrupted

_LOOK_EVERY_S: Final = 0.5


def work_together(folder: Path, *, num_workers: int) -> None:
    """Train a sweep's trials in several processes until they are done.

    Each has a log ``worker-<n>.log``, its share of the processor's cores, and on a machine with CUDA devices one of
    them, in turn.

    Args:
        folder: The sweep's, with study and ``config.yaml``.
        num_workers: How many.

    Raises:
        TrainingInterrupted: After Ctrl-C, when every process has saved its trial.
        ConfigurationError: If a process failed.
    """
    workers = [_start(folder, number, num_workers) for number in range(num_workers)]
    asked = False
    while any(worker.poll() is None for worker in workers):
        try:
            time.sleep(_LOOK_EVERY_S)
        except KeyboardInterrupt:
            # They are in sessions of their own, so that each gets one SIGINT, however Ctrl-C came here; two would
            # stop them in the middle of an epoch.
            for worker in workers:
                if worker.poll() is None:
                    worker.send_signal(signal.SIGINT)
            asked = True
    codes = [worker.returncode for worker in workers]
    for number, code in enumerate(codes):
        if code not in (0, INTERRUPTED_EXIT_CODE):
            log = folder / f"worker-{number}.log"
            last = log.read_text().strip().splitlines()[-1:] or ["nothing"]
            raise ConfigurationError(f"process {number} of the sweep ended with code {code}: {last[0]} ({log})")
    if asked:
        raise TrainingInterrupted("stopped, every trial at work is saved")


def _start(folder: Path, number: int, num_workers: int) -> subprocess.Popen[bytes]:
    import torch

    environment = dict(os.environ)
    if devices := torch.cuda.device_count():
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(devices)))).split(",")
        environment["CUDA_VISIBLE_DEVICES"] = visible[number % len(visible)]
    environment.setdefault("OMP_NUM_THREADS", str(max(len(os.sched_getaffinity(0)) // num_workers, 1)))
    with (folder / f"worker-{number}.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "training.sweeping.worker", str(folder)],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
