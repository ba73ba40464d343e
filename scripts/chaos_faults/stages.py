"""The kinds of endpoints that faults need."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Final

from scripts.chaos_faults.endpoint import ChaosError, Endpoint

_DISK: Final = "size=96m"
_PRELOAD_IN_WORKERS: Final = """
import os, sys
if "LD_PRELOAD" not in os.environ and any(word.endswith("default_worker.py") for word in sys.orig_argv):
    os.environ.update({preload})
    os.execv(sys.executable, sys.orig_argv)
"""


@contextmanager
def plain(folder: Path) -> Iterator[Endpoint]:
    """Two replicas, SQLite and LMDB."""
    with Endpoint(folder) as endpoint:
        yield endpoint


@contextmanager
def small_disk(folder: Path) -> Iterator[Endpoint]:
    """The same with its data on a small disk in memory."""
    disk = folder / "disk"
    disk.mkdir(parents=True)
    _run("mount", "-t", "tmpfs", "-o", _DISK, "tmpfs", str(disk))
    try:
        with Endpoint(folder / "endpoint", data=disk / "data") as endpoint:
            yield endpoint
    finally:
        _run("umount", "--lazy", str(disk))


@contextmanager
def redis(folder: Path) -> Iterator[Endpoint]:
    """Log and state in a Redis that writes every event to the disk."""
    from tests.serving.state.redis_server import RedisServer

    with tempfile.TemporaryDirectory(prefix="redis-") as short:  # the path of a socket must not be long
        server = RedisServer(Path(short))
        environment = {
            "ROOMREC_EVENT_LOG": "redis",
            "ROOMREC_STATE_STORE": "redis",
            "ROOMREC_REDIS_URL": server.url,
        }
        try:
            with Endpoint(folder, environment=environment) as endpoint:
                endpoint.beside["redis"] = server
                yield endpoint
        finally:
            server.kill()


@contextmanager
def turned_clock(folder: Path) -> Iterator[Endpoint]:
    """Replicas whose clock is off by as many seconds as a file says; their monotonic clock goes on as it should."""
    library = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
    if library is None:
        raise ChaosError("libfaketime is not installed")
    folder.mkdir(parents=True)
    clock = folder / "clock"
    clock.write_text("+0")
    preload = {
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_CACHE_DURATION": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "DONT_FAKE_MONOTONIC": "1",
    }
    # Ray's own programs, which are no Python, do not bear the library
    (folder / "sitecustomize.py").write_text(_PRELOAD_IN_WORKERS.format(preload=preload))
    with Endpoint(folder / "endpoint", environment={"PYTHONPATH": str(folder)}) as endpoint:
        endpoint.beside["clock"] = clock
        yield endpoint


STAGES: Final[dict[str, Callable[[Path], AbstractContextManager[Endpoint]]]] = {
    "plain": plain,
    "small-disk": small_disk,
    "redis": redis,
    "turned-clock": turned_clock,
}
"""By name."""


def why_not(needs: tuple[str, ...], stage: str) -> str | None:
    """Say why something cannot be tried on this machine, None if it can."""
    for program in needs:
        if shutil.which(program) is None:
            return f"{program} is not installed"
    if stage == "small-disk" and os.getuid() != 0:
        return "only root may mount a small disk"
    return None


def _run(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ChaosError(f"{' '.join(words)}: {done.stderr.strip()}")
