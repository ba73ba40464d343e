"""Several processes of one job, as torchrun starts them, but forked from one that has imported everything already.

    python -m tests.processes '[{"num_processes": 2, "call": "tests.sharded_jobs:train", "with": {...}}, ...]'

runs one job after the other; each calls a function in every process with the settings given.
"""

import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


def run_jobs(*jobs: dict[str, Any], timeout_s: float = 280) -> None:
    """Run jobs in a Python of their own; an error in any process is this one's."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.processes", json.dumps(jobs)],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]


def _run_job(job: dict[str, Any]) -> bool:
    module, _, name = job["call"].partition(":")
    function = getattr(importlib.import_module(module), name)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    size = job["num_processes"]
    children = []
    for rank in range(size):
        child = os.fork()
        if child == 0:
            os.environ.update(
                RANK=str(rank),
                LOCAL_RANK=str(rank),
                WORLD_SIZE=str(size),
                LOCAL_WORLD_SIZE=str(size),
                GROUP_RANK="0",
                MASTER_ADDR="127.0.0.1",
                MASTER_PORT=str(port),
                TORCHELASTIC_RUN_ID="test",
            )
            code = 0
            try:
                function(**job["with"])
            except BaseException:
                traceback.print_exc()
                code = 1
            sys.stderr.flush()
            os._exit(code)
        children.append(child)
    good = True
    while children:
        child, status = os.wait()
        children.remove(child)
        if status and good:
            good = False
            for other in children:  # they would wait for the one that is gone
                os.kill(other, signal.SIGKILL)
    return good


if __name__ == "__main__":
    import torchrec  # noqa: F401  (once, before forking)

    sys.exit(0 if all(_run_job(job) for job in json.loads(sys.argv[1])) else 1)
