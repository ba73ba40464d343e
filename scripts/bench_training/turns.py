"""Contenders train by turns, each in its own process, so that a noisy machine hits all alike."""

import contextlib
import json
import os
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

from scripts.bench_training.environments import ROOT

Segment = dict[str, float]


class Turn:
    """A worker process that trains when told to.

    Args:
        python: Interpreter of its environment.
        spec: What ``worker.py`` reads.
        folder: Where the spec and the log of what it prints go.
    """

    def __init__(self, *, python: Path, spec: dict[str, Any], folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.name = str(spec["name"])
        self._folder = folder
        (folder / "spec.json").write_text(json.dumps(spec, indent=2))
        limited = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "ARROW_NUM_THREADS")
        with (folder / "output.txt").open("a") as output:
            self._process = subprocess.Popen(
                [python, "-m", "scripts.bench_training.worker", str(folder / "spec.json")],
                cwd=ROOT,
                env=os.environ | dict.fromkeys(limited, str(spec["threads"])),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                text=True,
                start_new_session=True,  # Ctrl-C is for the orchestrator
            )

    def answer(self) -> dict[str, Any]:
        """Wait for the worker.

        Raises:
            RuntimeError: If it has died.
        """
        line = _open(self._process.stdout).readline()
        if not line:
            tail = (self._folder / "output.txt").read_text().splitlines()[-15:]
            raise RuntimeError(f"{self.name} ended with {self._process.wait()}:\n" + "\n".join(tail))
        answer: dict[str, Any] = json.loads(line)
        return answer

    def train(self, seconds: float) -> dict[str, Any]:
        """Let it train for about so long."""
        self._send({"seconds": seconds})
        return self.answer()

    def stop(self) -> dict[str, Any]:
        """Let it finish, which measures the best quality on all users."""
        self._send({"stop": True})
        last = self.answer()
        self.close()
        return last

    def close(self) -> None:
        """End the process."""
        for stream in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):
                _open(stream).close()
        if self._process.poll() is None:
            try:
                self._process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._process.wait()

    def kill(self) -> None:
        """End the process at once."""
        self._process.kill()
        self.close()

    def _send(self, command: dict[str, Any]) -> None:
        stdin = _open(self._process.stdin)
        stdin.write(json.dumps(command) + "\n")
        stdin.flush()


def measure_speed(
    turns: Sequence[Turn], *, rounds: int, seconds: float, report: Callable[[str], None]
) -> dict[str, dict[str, Any]]:
    """Let each train for some segments in turn.

    Args:
        turns: Workers that do not evaluate; each is past its warm-up when it first answers.
        rounds: Segments of each.
        seconds: Of a segment.
        report: Told what happens.

    Returns:
        By name, its segments and what it said at the end.
    """
    found: dict[str, dict[str, Any]] = {turn.name: {"segments": [], "load": []} for turn in turns}
    for turn in turns:  # one after another, so that nobody warms up beside somebody else
        turn.answer()
    for _ in range(rounds):
        for turn in turns:
            answer = turn.train(seconds)
            if "segment" not in answer:
                raise RuntimeError(f"{turn.name} ended by itself after {answer['clock']:.0f} s: nothing was measured")
            segment = answer["segment"]
            found[turn.name]["segments"].append(segment)
            found[turn.name]["load"].append(round(os.getloadavg()[0], 2))
            found[turn.name]["peak_memory_mb"] = answer["peak_memory_mb"]
            rate = segment["sequences"] / segment["seconds"]
            report(f"{turn.name}: {segment['steps']} steps, {rate:.0f} rows/s, {answer['peak_memory_mb']:.0f} MB")
    for turn in turns:
        found[turn.name]["described"] = turn.stop()["described"]
    return found


def measure_quality(
    turns: Sequence[Turn],
    *,
    limit: float,
    seconds: float,
    report: Callable[[str], None],
    keep: Callable[[str, dict[str, Any]], None],
) -> None:
    """Let each train until its time is up or it has finished by itself.

    Args:
        turns: Workers that evaluate.
        limit: Seconds of training of each.
        seconds: Of a segment.
        report: Told what happens.
        keep: Told curve and final quality of each as soon as it has ended.
    """
    clocks = {turn.name: turn.answer()["clock"] for turn in turns}
    going = list(turns)
    while going:
        for turn in list(going):
            left = limit - clocks[turn.name]
            answer = turn.train(min(seconds, left)) if left > 0 else turn.stop()
            clocks[turn.name] = answer["clock"]
            if "ended" in answer:
                going.remove(turn)
                turn.close()
                keep(turn.name, answer)
                report(f"{turn.name}: ended after {answer['clock']:.0f} s, {answer['quality']}")
            else:
                best = max((value for *_, value in answer["curve"]), default=float("nan"))
                report(f"{turn.name}: {answer['clock']:.0f} s, best validation NDCG@10 {best:.4f}")


def _open(stream: IO[str] | None) -> IO[str]:
    assert stream is not None
    return stream
