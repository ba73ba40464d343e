"""One careful client beside the load: a new connection for each request, and a note of when it was answered how."""

import contextlib
import http.client
import itertools
import json
import threading
import time
from collections import Counter
from typing import Any, Final, NamedTuple, Self

from scripts.chaos_faults.endpoint import Endpoint
from scripts.chaos_faults.load import TIMEOUT_S

KINDS: Final = ("recommendations", "events")
"""What is asked by turns."""

OK: Final = "ok"
"""Answered with 200."""


class Probe(NamedTuple):
    """One request and how it ended."""

    kind: str
    began: float
    ended: float
    how: str
    """``ok``, a status, or ``connect``, ``reset``, ``timeout``"""


class Probes:
    """Asks for a slate and reports an event, again and again.

    Args:
        endpoint: Whom to ask.
        run_id: Begins the ids of its events.
        every_s: Seconds between requests.
    """

    def __init__(self, endpoint: Endpoint, run_id: str, *, every_s: float = 0.1) -> None:
        self._port = endpoint.port
        self._run_id = run_id
        self._every_s = every_s
        self._numbers = itertools.count()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="probes", daemon=True)
        self.seen: list[Probe] = []
        self.acknowledged: set[str] = set()
        self.degraded: Counter[str] = Counter()

    def errors(self) -> Counter[str]:
        """Count what was not answered with 200."""
        return Counter(probe.how for probe in self.seen if probe.how != OK)

    def kinds_failing(self, since: float, until: float) -> set[str]:
        """Return which kinds of requests begun in a stretch of time were not answered with 200."""
        return {probe.kind for probe in self.seen if since <= probe.began < until and probe.how != OK}

    def longest(self, kind: str, since: float = 0.0) -> float:
        """Return the seconds of the request that took longest."""
        return max((p.ended - p.began for p in self.seen if p.kind == kind and p.began >= since), default=0.0)

    def well_since(self, instant: float, *, calm_s: float = 1.0, within_s: float = 60.0) -> float | None:
        """Wait until both kinds have been answered well for a while.

        Args:
            instant: When what is to be got over had happened, by ``time.monotonic``.
            calm_s: The while.
            within_s: How long to wait.

        Returns:
            When the last request ended that was not answered well, or ``instant``; None if that does not end.
        """
        until = time.monotonic() + within_s
        while time.monotonic() < until:
            bad = max((probe.ended for probe in self.seen if probe.how != OK), default=0.0)
            since = max(bad, instant)
            good = {probe.kind for probe in self.seen if probe.how == OK and probe.began > since}
            if time.monotonic() - since >= calm_s and good == set(KINDS):
                return since
            time.sleep(0.05)
        return None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        for kind in itertools.cycle(KINDS):
            if self._stop.is_set():
                return
            began = time.monotonic()
            how = self._ask(kind)
            self.seen.append(Probe(kind, began, time.monotonic(), how))
            self._stop.wait(self._every_s)

    def _ask(self, kind: str) -> str:
        if kind == "recommendations":
            body: Any = {"user_id": f"{self._run_id}-prober", "k": 5}
        else:
            event_id = f"{self._run_id}-probe-{next(self._numbers)}"
            body = [
                {
                    "event_id": event_id,
                    "event_type": "enter",
                    "occurred_at_ms": time.time_ns() // 1_000_000,
                    "user_id": f"{self._run_id}-prober",
                    "room_id": f"{self._run_id}-r000000",
                    "streamer_id": "host-000",
                }
            ]
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=TIMEOUT_S)
        with contextlib.closing(connection):
            try:
                connection.request("POST", f"/v1/{kind}", json.dumps(body))
                answer = connection.getresponse()
                said = json.loads(answer.read())
            except ConnectionRefusedError:
                return "connect"
            except TimeoutError:
                return "timeout"
            except (OSError, http.client.HTTPException, ValueError):
                return "reset"
        if answer.status != 200:
            return (
                "no Retry-After" if answer.status == 503 and not answer.headers["retry-after"] else str(answer.status)
            )
        if kind == "recommendations":
            self.degraded[said["degraded"] or "none"] += 1
            return OK
        if said["results"][0]["status"] == "rejected":
            return f"rejected {said['results'][0]['reason']}"
        self.acknowledged.add(event_id)
        return OK
