"""The live table, drawn by a process of its own, so that drawing delays no request.

The generator writes one JSON object a second to the standard input of this process and never waits for it.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
from typing import Any

import numpy as np
from rich.console import Console
from rich.live import Live
from rich.table import Table

from scripts.load_serving.connections import Pool
from scripts.load_serving.recording import Recorder, percentile
from scripts.load_serving.traffic import Traffic

_LINE_EVERY = 10
"""Seconds between lines where there is no terminal for a table."""


class Display:
    """Tells the drawing process what happened in the last second."""

    def __init__(self) -> None:
        command = [sys.executable, "-c", "from scripts.load_serving.display import draw; draw()"]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            start_new_session=True,
        )
        assert self._process.stdin is not None
        os.set_blocking(self._process.stdin.fileno(), False)
        self._seen: dict[int, tuple[int, int, int]] = {}

    def tell(self, name: str, left_s: float, traffic: Traffic, pool: Pool, more: dict[str, Any]) -> None:
        """Draw a second.

        Args:
            name: Of the stretch under way.
            left_s: Seconds left of it.
            traffic: What is played.
            pool: What waits.
            more: What else stands below the table.
        """
        kinds = {kind: self._since(recorder) for kind, recorder in traffic.recorders.items()}
        said = {"name": name, "left_s": round(left_s), "kinds": kinds, "waiting": pool.waiting, **more}
        assert self._process.stdin is not None
        with contextlib.suppress(BlockingIOError, BrokenPipeError):  # a table that is behind misses a second
            os.write(self._process.stdin.fileno(), json.dumps(said).encode() + b"\n")

    def close(self) -> None:
        """Let the table stand as it is."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _since(self, recorder: Recorder) -> dict[str, Any]:
        latency, refused, errors = self._seen.get(id(recorder), (0, 0, 0))
        now = len(recorder.latency), len(recorder.refused), recorder.errors.total()
        self._seen = {key: value for key, value in self._seen.items() if len(self._seen) < 20} | {id(recorder): now}
        values = np.sort(np.asarray(recorder.latency[latency:])) * 1000
        said: dict[str, Any] = {"served": now[0] - latency, "refused": now[1] - refused, "errors": now[2] - errors}
        if len(values):
            said |= {"p50": percentile(values, 500), "p99": percentile(values, 990), "max": float(values[-1])}
        return said


def draw() -> None:
    """Draw what comes in, until it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(10)
    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        for number, line in enumerate(sys.stdin, start=1):
            if number % _LINE_EVERY == 0:
                console.print(_line(json.loads(line)), soft_wrap=True)
        return
    with Live(console=console, auto_refresh=False) as live:
        for line in sys.stdin:
            live.update(_table(json.loads(line)), refresh=True)


def _table(said: dict[str, Any]) -> Table:
    table = Table(title=f"{said['name']}, {said['left_s']} s left", caption=_below(said))
    table.add_column("a second")
    for name in ("served", "refused", "errors", "p50 ms", "p99 ms", "max ms"):
        table.add_column(name, justify="right", min_width=7)
    for kind, numbers in said["kinds"].items():
        counts = [str(numbers[name]) for name in ("served", "refused", "errors")]
        latencies = [f"{numbers[name]:.2f}" if name in numbers else "" for name in ("p50", "p99", "max")]
        table.add_row(kind.replace("_", " "), *counts, *latencies)
    return table


def _line(said: dict[str, Any]) -> str:
    numbers = said["kinds"]["recommendations"]
    latencies = ", ".join(f"{name} {numbers[name]:.2f} ms" for name in ("p50", "p99", "max") if name in numbers)
    counts = f"{numbers['served']} served, {numbers['refused']} refused, {numbers['errors']} errors a second"
    return f"{said['name']}, {said['left_s']} s left: {counts}; {latencies or 'nothing served'}; {_below(said)}"


def _below(said: dict[str, Any]) -> str:
    return (
        f"{said['waiting']} waiting for a connection, {said['unacknowledged']} events not yet acknowledged, "
        f"{said['not_live_shown']} shown that must not be"
    )
