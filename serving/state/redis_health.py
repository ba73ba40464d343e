"""Whether a Redis answers: known to all connections of a process, and asked by a thread of its own."""

import threading
import time
from typing import Final

import redis

_PAUSE_S: Final = 0.25
_PAUSE_WHILE_AWAY_S: Final = 0.05


class RedisHealth:
    """What a process knows of its Redis.

    Whoever waited in vain says so, and the others then need not wait. A thread asks four times a second how Redis is;
    when it does not answer, the question stays asked, so that it is known to be back the moment it is.

    Args:
        name: The Redis, for people.
        hurried: Waits as long as a read may.
        patient: Asks a Redis that does not answer.
        hurry_s: How long a read waits.
        patience_s: How long a write waits.
    """

    def __init__(
        self, name: str, *, hurried: redis.Redis, patient: redis.Redis, hurry_s: float, patience_s: float
    ) -> None:
        self._name = name
        self._hurried, self._patient = hurried, patient
        self._hurry_s, self._patience_s = hurry_s, patience_s
        self._silent_since: float | None = None
        self._refusal: str | None = None
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._wake = threading.Event()
        self._closed = False

    def start(self) -> None:
        """Begin to ask in the background; again does nothing."""
        with self._lock:
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(target=self._run, name="redis-health", daemon=True)
                self._thread.start()

    def why_away(self) -> str | None:
        """Return why nothing can be asked as far as is known, None if it can; waits for nothing."""
        if self._silent_since is not None:
            return f"Redis {self._name} does not answer"
        return self._refusal

    def is_silent(self, *, is_hurried: bool) -> bool:
        """Return whether asking is in vain: for a read since somebody waited, for a write since the patience ended."""
        since = self._silent_since
        return since is not None and (is_hurried or time.monotonic() - since >= self._patience_s)

    def say_silent(self, since: float) -> None:
        """Tell the others that no answer came.

        Args:
            since: When the question was asked, seconds of ``time.monotonic``.
        """
        if self._silent_since is None:
            self._silent_since = since
        self.start()
        self._wake.set()

    def say_refused(self, since: float, reason: str) -> None:
        """Tell the others that there was no connection.

        Args:
            since: When it was asked for, seconds of ``time.monotonic``.
            reason: What was said, without anything that was sent.
        """
        if time.monotonic() - since > self._hurry_s:
            self.say_silent(since)  # to be refused took so long that nobody should wait for it again
        else:
            self._refusal = f"Redis {self._name}: {reason}"
            self.start()

    def close(self) -> None:
        """Stop asking."""
        with self._lock:
            self._closed = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join()
        self._hurried.close()
        self._patient.close()

    def _run(self) -> None:
        while not self._closed:
            self._wake.clear()
            asked_at = time.monotonic()
            try:
                (self._hurried if self._silent_since is None else self._patient).ping()
            except redis.TimeoutError:
                self._silent_since = self._silent_since or asked_at
                continue
            except redis.ConnectionError as error:
                self.say_refused(asked_at, str(error))
                if time.monotonic() - asked_at <= self._hurry_s:
                    self._silent_since = None
            except redis.RedisError:
                self._silent_since = self._refusal = None  # a refusal is an answer
            else:
                self._silent_since = self._refusal = None
            self._wake.wait(_PAUSE_S if self.why_away() is None else _PAUSE_WHILE_AWAY_S)
