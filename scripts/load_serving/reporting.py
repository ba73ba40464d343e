"""Posts of events by a client that gives up on none: sent again with the same ids until they are acknowledged."""

from array import array
from collections import Counter
from collections.abc import Callable
from typing import Any, Final, Literal, TextIO

import msgspec
import orjson

from scripts.load_serving.agenda import Agenda, now
from scripts.load_serving.connections import Exchange, Pool
from scripts.load_serving.recording import Recorder
from scripts.load_serving.rooms import Event

_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.05, 2.0


class EventResult(msgspec.Struct, gc=False):
    """What became of one event."""

    event_id: str | None
    status: Literal["accepted", "duplicate", "rejected"]
    reason: str | None = None


class EventsAnswer(msgspec.Struct, gc=False):
    """An answer to a post of events."""

    results: list[EventResult]


read_events_answer: Final = msgspec.json.Decoder(EventsAnswer).decode

Accepted = Callable[[bool, Exchange], None]
"""Called once a post is acknowledged, with whether all its events are stored, and the exchange that said so."""


class Post:
    """Events that are sent together until they are acknowledged."""

    __slots__ = ("attempts", "due", "event_ids", "on_done", "payload", "recorder")

    def __init__(self, payload: bytes, event_ids: list[str], due: float, recorder: Recorder, on_done: Accepted | None):
        self.payload = payload
        self.event_ids = event_ids
        self.due = due
        self.recorder = recorder
        self.on_done = on_done
        self.attempts = 0


class Reporter:
    """An at-least-once client of ``POST /v1/events``.

    Refusals (429, 503), other answers from 500 and lost connections are tried again, after Retry-After if the server
    says so, else after 50 ms and then twice as long each time up to 2 s. Answers 400 to 499 are our fault and final.

    Args:
        pool: Where to send.
        agenda: When to try again.
        ledger: Gets a line ``status event_id`` for each event whose answer arrived.
    """

    def __init__(self, pool: Pool, agenda: Agenda, *, ledger: TextIO | None = None) -> None:
        self._pool = pool
        self._agenda = agenda
        self._ledger = ledger
        self.pending: set[Post] = set()
        """posts that were not acknowledged yet"""
        self.statuses: Counter[str] = Counter()
        """events by what became of them: accepted, duplicate, rejected"""
        self.unexpected_duplicates = 0
        """events called duplicates although they had been sent once"""
        self.retries = 0
        self.newest_trouble = "no answer yet"
        """why a post was tried again"""
        self.refused = 0
        """events in posts answered 400 to 499"""
        self.problems: Counter[str] = Counter()
        """reasons of rejections and refusals"""
        self.acknowledged = array("d")
        """seconds from the intended instant of the first try to the acknowledgement, of each post"""

    def post(
        self, head: bytes, events: list[Event], due: float, recorder: Recorder, on_done: Accepted | None = None
    ) -> None:
        """Send events, and again until they are acknowledged.

        Args:
            head: The request up to the number of its ``content-length``.
            events: At least one.
            due: When they were to be sent.
            recorder: Gets every try.
            on_done: Called when the post is over.
        """
        body = orjson.dumps(events)
        payload = head + b"%d\r\n\r\n" % len(body) + body
        post = Post(payload, [event["event_id"] for event in events], due, recorder, on_done)
        self.pending.add(post)
        self._send(post, due)

    @property
    def pending_events(self) -> int:
        """How many events were not acknowledged yet."""
        return sum(len(post.event_ids) for post in self.pending)

    def summary(self) -> dict[str, Any]:
        """Say what became of all events."""
        counts = {status: self.statuses[status] for status in ("accepted", "duplicate", "rejected")}
        return {
            "events_acknowledged": counts["accepted"] + counts["duplicate"],
            "events_unacknowledged": self.pending_events,
            "events_rejected": counts["rejected"] + self.refused,
            "events_duplicate": counts["duplicate"],
            "events_duplicate_at_first": self.unexpected_duplicates,
            "event_posts_retried": self.retries,
            "event_problems": dict(self.problems.most_common(5)),
        }

    def _send(self, post: Post, due: float) -> None:
        post.attempts += 1
        self._pool.submit(Exchange(post.payload, due, self._answered, post))

    def _answered(self, exchange: Exchange) -> None:
        post: Post = exchange.about
        post.recorder.record(exchange)
        if exchange.status == 200 and exchange.error is None:
            try:
                self._acknowledged(post, exchange, read_events_answer(exchange.body).results)
            except msgspec.DecodeError as error:
                self.problems[f"answer cannot be read: {error}"] += 1
                self._again(post, exchange)
        elif 400 <= exchange.status < 500 and exchange.status not in (408, 429):
            self.pending.discard(post)
            self.refused += len(post.event_ids)
            self.problems[f"{exchange.status} {exchange.body[:120].decode(errors='replace')}"] += 1
            if post.on_done is not None:
                post.on_done(False, exchange)
        else:
            self._again(post, exchange)

    def _acknowledged(self, post: Post, exchange: Exchange, results: list[EventResult]) -> None:
        self.pending.discard(post)
        self.acknowledged.append(exchange.answered - post.due)
        is_stored = len(results) == len(post.event_ids)
        for result in results:
            self.statuses[result.status] += 1
            if result.status == "rejected":
                is_stored = False
                self.problems[f"rejected {result.reason}"] += 1
            elif result.status == "duplicate" and post.attempts == 1:
                self.unexpected_duplicates += 1
            if self._ledger is not None:
                self._ledger.write(f"{result.status} {result.event_id}\n")
        if post.on_done is not None:
            post.on_done(is_stored, exchange)

    def _again(self, post: Post, exchange: Exchange) -> None:
        self.retries += 1
        self.newest_trouble = exchange.error or f"{exchange.status} {exchange.body[:120].decode(errors='replace')}"
        wait = min(_FIRST_WAIT_S * 2 ** (post.attempts - 1), _LONGEST_WAIT_S)
        said = exchange.header(b"retry-after") if exchange.error is None else None
        if said is not None and said.isdigit():
            wait = max(float(said), wait)
        self._agenda.at(now() + wait, lambda due: self._send(post, due))


def read_ledger(lines: TextIO) -> tuple[set[str], set[str]]:
    r"""Read a ledger again.

    Args:
        lines: What a ``Reporter`` wrote.

    Returns:
        Ids of events that were acknowledged, and of those that were rejected.

    Example:
        >>> from io import StringIO
        >>> read_ledger(StringIO("accepted a-1\nrejected a-2\nduplicate a-3\n"))[1]
        {'a-2'}
    """
    acknowledged: set[str] = set()
    rejected: set[str] = set()
    for line in lines:
        status, _, event_id = line.rstrip("\n").partition(" ")
        (rejected if status == "rejected" else acknowledged).add(event_id)
    return acknowledged, rejected
