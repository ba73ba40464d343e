"""The load under which faults happen: ``scripts/load-serving`` in a process of its own."""

import json
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any, Final, Self

from scripts.chaos_faults.bundles import PRODUCTS, ROOMS
from scripts.chaos_faults.endpoint import ChaosError, Endpoint
from scripts.load_serving.reporting import read_ledger

TIMEOUT_S: Final = 10.0
"""A request without an answer for so long hangs."""

_ROOT = Path(__file__).resolve().parents[2]
_LONGEST_S, _BEGIN_S = 900, 60.0


class Load:
    """An evening against an endpoint until it is told to end, with a ledger of what was acknowledged.

    Args:
        endpoint: Whom to load.
        run_id: Begins the ids of its events.
        rate: Requests for recommendations a second.
        events_per_recommendation: Viewers' events for each.
        room_changes: Changes of rooms a second.
        seed: Decides instants and who does what.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        run_id: str,
        *,
        rate: float,
        events_per_recommendation: float,
        room_changes: float,
        seed: int,
    ) -> None:
        self.ledger = endpoint.folder / f"{run_id}.ledger"
        self._output = endpoint.folder / f"{run_id}.output"
        self.description = (
            f"{rate:g} slates/s, {rate * events_per_recommendation:g} events/s, {room_changes:g} changes/s"
        )
        self._words = [
            *(endpoint.url, "--rate", rate, "--duration", _LONGEST_S, "--warmup", 0, "--seed", seed),
            *("--events-per-recommendation", events_per_recommendation, "--room-changes-per-second", room_changes),
            *("--rooms", ROOMS, "--products", PRODUCTS, "--viewers", 2_000, "--run-id", run_id),
            *("--streamer-ids", endpoint.ids.streamers, "--product-ids", endpoint.ids.products),
            *("--probe-share", 0.2, "--timeout", TIMEOUT_S, "--drain", 30, "--ledger", self.ledger, "--quiet"),
        ]
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, _ROOT / "scripts" / "load-serving", *map(str, self._words)],
                cwd=_ROOT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        try:
            until = time.monotonic() + _BEGIN_S
            while not (self.ledger.exists() and self.ledger.stat().st_size):
                if self._process.poll() is not None or time.monotonic() > until:
                    raise ChaosError(f"the load did not begin: {self._said()[-1000:]}")
                time.sleep(0.05)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def finish(self) -> dict[str, Any]:
        """End it, let it have everything acknowledged, and return what it found.

        Raises:
            ChaosError: If it found nothing.
        """
        assert self._process is not None
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(120)
            return json.loads(self._said().splitlines()[-1])
        except (subprocess.TimeoutExpired, ValueError, IndexError):
            raise ChaosError(f"the load did not end well: {self._said()[-1000:]}") from None

    def acknowledged(self) -> set[str]:
        """Return the ids of events that were acknowledged."""
        with self.ledger.open() as lines:
            return read_ledger(lines)[0]

    def _said(self) -> str:
        return self._output.read_text(errors="replace")


def errors_of(found: dict[str, Any]) -> Counter[str]:
    """Count what clients got instead of an answer 200, by status or kind.

    Args:
        found: What ``Load.finish`` returned.
    """
    errors: Counter[str] = Counter()
    for stretch in found["stretches"]:
        for kind in ("recommendations", "events", "room_changes"):
            seen = stretch.get(kind, {"statuses": {}, "errors": {}, "refused_without_retry_after": 0})
            errors.update({status: count for status, count in seen["statuses"].items() if status != "200"})
            errors.update(seen["errors"])
            errors["no Retry-After"] += seen["refused_without_retry_after"]
    errors["connect"] += found["connect_errors"]
    return +errors
