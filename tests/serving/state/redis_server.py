"""A real redis-server for a test, which can be killed and started again on the same folder."""

import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from serving.state.redis_connection import RedisConnection

DURABLE = {"appendonly": "yes", "appendfsync": "always", "save": '""', "rdbcompression": "no"}
"""As the README asks; not compressed, so that a test finds in the files what is there."""


class RedisServer:
    """A server of its own on a unix socket.

    Args:
        folder: Where its files and its socket lie; a short path, since that of a socket may not be long.
        options: Lines of its configuration.
    """

    def __init__(self, folder: Path, **options: str) -> None:
        self.folder = folder
        self.url = f"unix://{folder}/redis.sock"
        self._options = DURABLE | options
        self.process: subprocess.Popen[bytes]
        self.start()

    def start(self) -> None:
        options = {"port": "0", "unixsocket": f"{self.folder}/redis.sock", "dir": str(self.folder)} | self._options
        configuration = self.folder / "redis.conf"
        configuration.write_text("".join(f"{name} {value}\n" for name, value in options.items()))
        self.process = subprocess.Popen(["redis-server", configuration], stdout=subprocess.DEVNULL)
        with self.client() as client:
            for _ in range(200):
                try:
                    client.ping()
                    return
                except redis.RedisError:
                    time.sleep(0.02)
        raise RuntimeError(f"redis-server did not start with {options}")

    def client(self) -> redis.Redis:
        """A client beside those that are tested; knows the password of the tests."""
        return redis.Redis(
            unix_socket_path=f"{self.folder}/redis.sock",
            password=self._options.get("requirepass"),
            retry=Retry(NoBackoff(), 0),
        )

    def connect(self, *, timeout_ms: int = 2_000) -> RedisConnection:
        return RedisConnection(self.url, prefix="roomrec", timeout_ms=timeout_ms)

    def kill(self) -> None:
        """Kill it as a crash would."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def bytes_after_rewriting(self) -> bytes:
        """Every byte it has in memory and on the disk, once it has finished rewriting its file."""
        with self.client() as client:
            while client.info("persistence")["aof_rewrite_in_progress"]:
                time.sleep(0.01)
            memory = b"".join(key + (client.dump(key) or b"") for key in client.scan_iter())
        while len(files := [file for file in self.folder.rglob("appendonly.aof*") if file.is_file()]) > 3:
            time.sleep(0.01)  # files of before are removed in the background: a base, what came after and a list stay
        return memory + b"".join(file.read_bytes() for file in files)


@contextmanager
def running(**options: str) -> Iterator[RedisServer]:
    """Run a server in a folder that is removed at the end."""
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed (`apt-get install redis-server`; scripts/test does it)")
    with tempfile.TemporaryDirectory(prefix="redis-") as folder:
        server = RedisServer(Path(folder), **options)
        try:
            yield server
        finally:
            server.kill()
