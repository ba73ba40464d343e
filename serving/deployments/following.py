"""What goes on behind the requests: following the registry, and comparing a challenger with the champion."""

import asyncio
import contextlib
import logging
import time

from roomrec.errors import BundleError, RegistryUnavailableError
from serving.deployments.models import ServingModels
from serving.deployments.shadow import EVERY_S

_CATCH_UP_S = 0.02
_LOG = logging.getLogger(__name__)


class ModelFollower:
    """Keeps the models of a replica those that the registry names.

    Args:
        models: The models.
        poll_s: How often the registry is asked.
    """

    def __init__(self, models: ServingModels, *, poll_s: float) -> None:
        self._models = models
        self._poll_s = poll_s
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin, in the running event loop."""
        self._tasks = [asyncio.create_task(work()) for work in (self._follow_registry, self._catch_up, self._compare)]

    async def close(self) -> None:
        """Stop."""
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        self._tasks = []

    async def _follow_registry(self) -> None:
        models = self._models
        while True:
            await asyncio.sleep(self._poll_s)
            try:
                in_use = await models.reader.read(models.registry.in_use)
                if in_use != models.in_use or models.is_time_to_load_again():
                    async with models.changing:
                        await models.apply(await models.reader.read(models.registry.in_use))
                models.catch_up_previous()
            except RegistryUnavailableError as error:
                models.reader.say_failure(error)
            except BundleError as error:
                _LOG.error("%s", error)
            except Exception:
                _LOG.exception("following the registry failed")

    async def _catch_up(self) -> None:
        while True:
            await asyncio.sleep(_CATCH_UP_S)
            try:
                began = time.monotonic()
                while self._models.catch_up():
                    await asyncio.sleep(time.monotonic() - began)  # half of the time is for the requests
                    began = time.monotonic()
            except Exception:
                _LOG.exception("what is new could not be encoded")

    async def _compare(self) -> None:
        while True:
            await asyncio.sleep(EVERY_S)
            try:
                self._models.compare_unseen()
            except Exception:
                _LOG.exception("a challenger could not be compared")
