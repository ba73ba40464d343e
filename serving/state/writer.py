"""Group commit: events posted at the same time share one write to the disk."""

import threading
from collections.abc import Sequence
from concurrent.futures import Future
from typing import NamedTuple

from roomrec.errors import StateError
from serving.state.event_log import Event, EventLog
from serving.state.state_store import Erased, StateStore


class _Post(NamedTuple):
    events: Sequence[Event]
    future: "Future[list[str]]"


class _Erasure(NamedTuple):
    user_id: str
    future: "Future[tuple[int, Erased]]"


class EventWriter:
    """One thread that appends events to the log, brings the state up to date, and only then answers.

    Whatever is posted while the disk is busy goes into the next transaction together.

    Args:
        log: The log, used by this thread only and closed with it.
        store: The state that follows it.

    Example::

        writer = EventWriter(log, store)
        results = await asyncio.wrap_future(writer.post(events))
    """

    def __init__(self, log: EventLog, store: StateStore) -> None:
        self._log = log
        self._store = store
        self._posts: list[_Post] = []
        self._erasures: list[_Erasure] = []
        self._closed = False
        self._something = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="event-writer", daemon=True)
        self._thread.start()

    def post(self, events: Sequence[Event]) -> "Future[list[str]]":
        """Store validated events.

        Returns:
            ``accepted`` or ``duplicate`` for each, once they are durable and visible. The future holds a ``StateError``
            if they could not be made so; sending them again is safe.

        Raises:
            StateError: If the writer is closed.
        """
        work = _Post(events, Future())
        with self._something:
            self._refuse_if_closed()
            self._posts.append(work)
            self._something.notify()
        return work.future

    def erase_user(self, user_id: str) -> "Future[tuple[int, Erased]]":
        """Remove a viewer from the log, then from the state.

        Returns:
            How many events the log held, and what the state held.

        Raises:
            StateError: If the writer is closed.
        """
        work = _Erasure(user_id, Future())
        with self._something:
            self._refuse_if_closed()
            self._erasures.append(work)
            self._something.notify()
        return work.future

    def close(self) -> None:
        """Finish what is waiting, stop, and close the log."""
        with self._something:
            self._closed = True
            self._something.notify()
        self._thread.join()
        self._log.close()

    def _run(self) -> None:
        while True:
            with self._something:
                while not (self._posts or self._erasures or self._closed):
                    self._something.wait()
                posts, erasures = self._posts, self._erasures
                self._posts, self._erasures = [], []
            if not posts and not erasures:
                return
            self._commit(posts)
            for erasure in erasures:
                self._erase(erasure)

    def _commit(self, posts: list[_Post]) -> None:
        posts = [post for post in posts if post.future.set_running_or_notify_cancel()]
        try:
            self._store_together(posts)
        except StateError as error:
            for post in posts:
                post.future.set_exception(error)
        except Exception:
            self._commit_apart(posts)

    def _commit_apart(self, posts: list[_Post]) -> None:
        """One bad post must not fail those that happened to share its transaction."""
        for post in posts:
            try:
                self._store_together([post])
            except Exception as error:
                post.future.set_exception(error)

    def _store_together(self, posts: list[_Post]) -> None:
        if not posts:
            return
        appended = self._log.append([event for post in posts for event in post.events])
        self._store.catch_up(appended)
        start = 0
        for post in posts:
            stop = start + len(post.events)
            post.future.set_result(appended.statuses[start:stop])
            start = stop

    def _erase(self, erasure: _Erasure) -> None:
        if not erasure.future.set_running_or_notify_cancel():
            return
        try:
            logged = self._log.erase_user(erasure.user_id)
            erasure.future.set_result((logged, self._store.erase_user(erasure.user_id)))
        except Exception as error:
            erasure.future.set_exception(error)

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise StateError("the event writer is closed")
