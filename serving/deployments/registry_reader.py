"""Reading the registry without waiting for a disk that hangs."""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from roomrec.bundle import Registry
from roomrec.errors import RegistryUnavailableError

ANSWERS_WITHIN_S: Final = 2.0
"""Longer than this nobody waits for the registry."""

_LOG = logging.getLogger(__name__)
_Found = TypeVar("_Found")


class RegistryReader:
    """One thread that asks the registry; a read that never comes back keeps that thread, not the event loop.

    Args:
        registry: What is read.
    """

    def __init__(self, registry: Registry) -> None:
        self._root = registry.root
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="registry-reader")
        self.failure: str | None = None
        """why the registry cannot be read, None while it can"""

    async def read(self, ask: Callable[[], _Found]) -> _Found:
        """Return what the registry says.

        Args:
            ask: A method of the registry.

        Raises:
            RegistryUnavailableError: If it cannot be read, or does not answer in time.
        """
        asking = asyncio.get_running_loop().run_in_executor(self._thread, ask)
        try:
            # wait_for of Python 3.11 may swallow the cancellation of a task that is being closed
            async with asyncio.timeout(ANSWERS_WITHIN_S):
                found = await asking
        except TimeoutError:
            raise RegistryUnavailableError(
                f"registry {self._root} did not answer within {ANSWERS_WITHIN_S:.0f} s"
            ) from None
        self.failure = None
        return found

    def say_failure(self, error: RegistryUnavailableError) -> None:
        """Remember why it cannot be read, and log it once."""
        if self.failure is None:
            _LOG.error("the models at work go on, but the registry cannot be read: %s", error)
        self.failure = str(error)

    def close(self) -> None:
        """Let go of the thread."""
        self._thread.shutdown(wait=False, cancel_futures=True)
