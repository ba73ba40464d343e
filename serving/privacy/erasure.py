"""Erasing a viewer from everything that an endpoint keeps, with a receipt."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from roomrec.errors import EventError, StateError
from roomrec.events.erasure import ERASED_USERS_FILE, mark_erased
from serving.privacy.exports import Exports, ExportsErased
from serving.privacy.receipts import Receipts
from serving.settings import Settings
from serving.state.writer import EventWriter

_ALWAYS_LEFT: Final = (
    "datasets preprocessed before now: training refuses those made from this endpoint's log until they are made again "
    "with `python -m training.preprocess ... overwrite=true`, which leaves the viewer out",
    "bundles trained before now: a vocabulary with viewers' ids may name the viewer; train again and delete them",
    "exports that were copied or moved to where this endpoint does not know them",
    "decayed counts of enters and popularity, which name nobody; hashes of ids in the indexes of event log and state",
    "memory of running replicas until it is used again, and blocks that the file system freed without overwriting them",
)
_LEFT_IN_LMDB: Final = (
    "state/data.mdb was overwritten where no record lies; what running replicas have in their write buffers may come "
    "to lie in such places again, until the endpoint has been stopped and started, which overwrites once more"
)
_LEFT_IN_REDIS: Final = (
    "Redis: its own file was written again, but its replicas and backups keep what was deleted until theirs are; of "
    "slates, exports and lists of erased users only those of the machine that answered were gone through: ask each"
)


class Erasure:
    """Erases viewers. Each step can be done again: if one fails, asking again goes on where it stopped.

    First the viewer is put on the list that preprocessing reads, so that whatever happens next they are not learned
    from; then they go from the log, so that nothing can come back from there; then from all that was made of it.

    Args:
        settings: Where things are.
        writer: Erases from log and state.
        scrub: Overwrites what the state's files hold of erased records and returns how many bytes; None where the state
            has no files.
        erase_slates: Erases a viewer's slates and returns how many there were.
        now_ms: The clock, epoch milliseconds.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        writer: EventWriter,
        scrub: Callable[[], int] | None,
        erase_slates: Callable[[str], int],
        now_ms: Callable[[], int],
    ) -> None:
        self._settings = settings
        self._writer = writer
        self._scrub = scrub
        self._erase_slates = erase_slates
        self._now_ms = now_ms
        self._scrubbing = asyncio.Lock()
        self._next_scrub: asyncio.Task[int] | None = None
        self._data = Path(settings.data)
        self._exports = Exports(self._data)
        self._receipts = Receipts(self._data)

    async def erase_user(self, user_id: str) -> dict[str, Any]:
        """Erase a viewer.

        Args:
            user_id: As it is stored: the pseudonym where there are pseudonyms.

        Returns:
            The receipt as it is kept, without the id.

        Raises:
            StateError: If something could not be written; asking again is safe.
        """
        at_ms = self._now_ms()
        hashed = await asyncio.to_thread(self._mark, user_id, at_ms)
        logged, known = await asyncio.wrap_future(self._writer.erase_user(user_id))
        removed = {
            "event_log": {"events": logged},
            "state": {"history_events": known.events, "follows": known.follows, "refusals": known.refusals},
        }
        if self._scrub is not None:
            removed["state"]["bytes_overwritten"] = await self._scrub_once(self._scrub)
        removed["slates"] = {"slates": await asyncio.to_thread(self._erase_slates, user_id)}
        exports = await asyncio.to_thread(self._exports.erase_user, user_id)
        removed["exports"] = {"rows": exports.rows, "files_written_again": exports.files}
        receipt = {
            "user_hash": hashed,
            "erased_at_ms": at_ms,
            "removed": removed,
            "left_out_of_training": str(self._data / ERASED_USERS_FILE),
            "not_removed": self._left(exports),
        }
        await asyncio.to_thread(self._receipts.add, receipt)
        return receipt

    def receipts(self, limit: int) -> list[dict[str, Any]]:
        """Return the newest receipts, newest first.

        Raises:
            StateError: If they cannot be read.
        """
        return self._receipts.newest(limit)

    async def _scrub_once(self, scrub: Callable[[], int]) -> int:
        """Go through the whole state once for all erasures that wait meanwhile; it takes a second for each gigabyte."""

        async def run() -> int:
            async with self._scrubbing:
                self._next_scrub = None  # who comes from now on may have been deleted too late for this one
                return await asyncio.to_thread(scrub)

        if self._next_scrub is None:
            self._next_scrub = asyncio.create_task(run())
        return await asyncio.shield(self._next_scrub)

    def _mark(self, user_id: str, at_ms: int) -> str:
        try:
            return mark_erased(self._data / ERASED_USERS_FILE, user_id, at_ms=at_ms)
        except (OSError, EventError) as error:
            raise StateError(f"the list of erased users cannot be written: {error}") from error

    def _left(self, exports: ExportsErased) -> list[str]:
        left = [*_ALWAYS_LEFT, *(f"export {each}" for each in exports.untouched)]
        if self._settings.state_store == "lmdb":
            left.append(_LEFT_IN_LMDB)
        if "redis" in (self._settings.state_store, self._settings.event_log):
            left.append(_LEFT_IN_REDIS)
        return left
