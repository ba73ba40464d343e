"""Which model answers whom in one replica: the champion, a canary, and the version before while the champion fails."""

import asyncio
import logging
import os
import random
import socket
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from roomrec.bundle import InUse, Registry
from roomrec.errors import RegistryUnavailableError
from roomrec.policy.assignment import is_assigned
from serving.deployments.backlog import AT_ONCE, Backlog
from serving.deployments.breaker import Breaker
from serving.deployments.loaded import CHALLENGER, PREVIOUS, Loaded
from serving.deployments.loading import Asked, ModelLoader, in_use_at_start
from serving.deployments.recommender import CHAMPION, Query, Recommender
from serving.deployments.registry_reader import RegistryReader
from serving.deployments.serving_model import ServingModel
from serving.deployments.shadow import Shadow
from serving.deployments.viewers import Viewer
from serving.settings import Settings
from serving.state.live_catalogue import Changes, LiveCatalogue

_LOG = logging.getLogger(__name__)
_NOTHING: Final = InUse(None, None, 0.0)
_ASKED_LATELY: Final = 128
_CAUGHT_UP_ROOMS: Final = 16
_FAILED_LOAD_AGAIN_S: Final = 30.0
_BY_THE_MODEL: Final = (None, "sequence_only", "fewer_than_k")


class ServingModels:
    """The models of one replica, following the registry.

    Everything runs on the event loop but loading, which has a thread that pauses, and reading the registry.

    Args:
        registry: Where bundles are and which are in use.
        settings: How to run.
        catalogue: What is live, refreshed by the endpoint.
        recommender: Answers with the model it is given.
    """

    def __init__(
        self,
        *,
        registry: Registry,
        settings: Settings,
        catalogue: LiveCatalogue,
        recommender: Recommender,
    ) -> None:
        self.registry = registry
        self.settings = settings
        self.champion: Loaded | None = None
        self.challenger: Loaded | None = None
        self.previous: Loaded | None = None
        self.shadow: Shadow | None = None
        self.in_use = _NOTHING
        self.load_failures: dict[str, str] = {}
        self.changing = asyncio.Lock()
        self._catalogue = catalogue
        self._recommender = recommender
        self._loader = ModelLoader(
            registry,
            history_limit=settings.history_limit,
            cache_bytes=settings.encoder_cache_bytes,
        )
        self._loads = ThreadPoolExecutor(1, thread_name_prefix="model-loader")
        self.reader = RegistryReader(registry)
        self._share = 0.0
        self._asked: deque[Asked] = deque(maxlen=_ASKED_LATELY)
        self._loading: list[Backlog] = []
        self._forgotten_while_loading: set[str] = set()
        self._load_again_at: dict[str, float] = {}
        self._versions: list[str] = []

    def choose(self, user_id: str) -> Loaded | None:
        """Return who answers a viewer, None if there is no model."""
        challenger = self.challenger
        if (
            challenger is not None
            and self._share
            and is_assigned(user_id, experiment=challenger.version, share=self._share)
            and not challenger.breaker.is_open()
        ):
            return challenger
        champion = self.champion
        if champion is None or not champion.breaker.is_open() or self.previous is None:
            return champion
        self.previous.catch_up(self._catalogue)
        return self.previous

    def observe(self, chosen: Loaded | None, query: Query, viewer: Viewer | None, degraded: str | None) -> None:
        """Count how an answer went, and remember what was asked for whoever has to rehearse."""
        if chosen is None:
            return
        failed = degraded == "model_failed"
        if viewer is None or (not failed and degraded not in _BY_THE_MODEL):
            return
        chosen.answered += 1
        self._asked.append((query, viewer))
        if self.shadow is not None and chosen is self.champion and random.random() < self.settings.shadow_share:
            self.shadow.offer((query, viewer))
        if failed:
            chosen.failed += 1
        if chosen.breaker.record(failed=failed):
            instead = "what it cannot answer is filled with what is popular"
            if chosen is self.challenger:
                instead = "the champion answers its viewers"
            elif chosen is self.champion and self.previous is not None:
                instead = f"version {self.previous.version} answers"
            _LOG.error("%s %s failed too often: %s for a while", chosen.variant, chosen.version, instead)

    def forget(self, user_id: str) -> None:
        """Drop what a viewer asked lately, and what models remember of them."""
        for loaded in (self.champion, self.challenger, self.previous):
            if loaded is not None:
                loaded.model.encoders.viewers.forget(user_id)
        if self.changing.locked():
            self._forgotten_while_loading.add(user_id)
        self._asked = deque((each for each in self._asked if each[0].user_id != user_id), maxlen=_ASKED_LATELY)
        if self.shadow is not None:
            self.shadow.forget(user_id)

    def follow(self, changes: Changes) -> None:
        """Let no model show what is gone, and bring those at work up to date as far as that is quick.

        What a usual post changes is known to the next request; the rest waits for ``catch_up``.
        """
        for backlog in self._loading:
            backlog.add(self._catalogue, changes)
        for loaded in (self.champion, self.challenger, self.previous):
            if loaded is not None:
                loaded.note(self._catalogue, changes)
        # no more than is new: what waits already is not for this request to make up for
        num_changed = AT_ONCE if changes.product_ids is None else len(changes.room_ids) + len(changes.product_ids)
        self.catch_up(at_most=min(AT_ONCE, num_changed))

    def catch_up(self, *, at_most: int = AT_ONCE) -> bool:
        """Let models at work follow some of what has changed, and say whether more is waiting."""
        at_work = [self.champion, self.challenger, self.previous if self.falls_back else None]
        for loaded in at_work:
            if loaded is not None:
                loaded.catch_up(self._catalogue, at_most=at_most)
        return any(loaded is not None and len(loaded.backlog) for loaded in at_work)

    def load_first(self, *, must_load: bool) -> None:
        """Load the champion, and a challenger with a share, and put what is popular in order; nobody waits yet.

        Args:
            must_load: Whether a champion that cannot be loaded is an error.

        Raises:
            BundleError: If it cannot be, and must.
            RegistryError: If there is no champion, and ``allow_no_model`` is off; or if the registry cannot be read.
        """
        self._load_first(must_load=must_load)
        for loaded in (self.champion, self.challenger):
            if loaded is not None:
                self._recommender.popular.prepare_at_once(loaded.model)
        if self.champion is None:
            self._recommender.popular.prepare_at_once(None)

    def _load_first(self, *, must_load: bool) -> None:
        try:
            in_use = in_use_at_start(self.registry, allow_no_model=self.settings.allow_no_model)
        except RegistryUnavailableError as error:
            if must_load:
                raise
            self.reader.say_failure(error)
            return
        version = in_use.champion
        if version is None:
            return
        try:
            self._install_champion(self._load_at_once(version))
        except Exception as error:  # whatever it is: a bundle may be damaged in any way
            if must_load:
                raise
            self._say_load_failure(CHAMPION, version, error)
        self.in_use = InUse(version, None, 0.0)
        if in_use.challenger is not None and in_use.share:  # its viewers stay with it over a restart
            try:
                self._install_challenger(self._load_at_once(in_use.challenger), in_use.share)
            except Exception as error:
                self._say_load_failure(CHALLENGER, in_use.challenger, error)
            self.in_use = in_use

    def _load_at_once(self, version: str) -> Loaded:
        model = self._loader.open(version, gently=False)
        self._loader.follow(model, self._catalogue, self._catalogue.rooms.keys(), gently=False)
        return self._loaded(model, Backlog())

    def close_threads(self) -> None:
        """Let go of the threads."""
        self._loader.close()
        self._loads.shutdown(wait=False, cancel_futures=True)
        self.reader.close()

    async def obtain(self, version: str, *, strict: bool) -> Loaded:
        """Return a version that is in memory already, or load it beside those at work.

        Args:
            version: In the registry.
            strict: Whether it is a candidate, to be refused for what it cannot do.

        Raises:
            BundleError: As ``ModelLoader.load``.
        """
        for loaded in (self.champion, self.challenger, self.previous):
            if loaded is not None and loaded.version == version:
                return loaded
        backlog = Backlog()
        self._loading.append(backlog)
        loop = asyncio.get_running_loop()
        try:
            self._forgotten_while_loading.clear()
            asked, copied = list(self._asked), self._catalogue.copy()
            model = await loop.run_in_executor(
                self._loads, lambda: self._loader.load(version, copied, asked, strict=strict)
            )
            while len(backlog) > _CAUGHT_UP_ROOMS:
                room_ids, copied = backlog.take_rooms(), self._catalogue.copy()
                await loop.run_in_executor(self._loads, self._loader.follow, model, copied, room_ids)
            await self._recommender.popular.prepare(model)
            for user_id in self._forgotten_while_loading:
                model.encoders.viewers.forget(user_id)
            self._forgotten_while_loading.clear()
        except BaseException:
            self._is_loaded(backlog)
            self._forget_orders()
            raise
        return self._loaded(model, backlog)

    async def apply(self, in_use: InUse, *, candidate: Loaded | None = None) -> None:
        """Swap models until they are those in use; requests go on meanwhile. Only with ``changing`` held.

        Args:
            in_use: What the registry says.
            candidate: A version loaded beforehand.
        """
        if in_use.champion is None:
            in_use = in_use._replace(champion=self.in_use.champion)  # a withdrawn champion goes on answering
        if in_use.champion is not None and not _is(self.champion, in_use.champion):
            loaded = await self._wanted(CHAMPION, in_use.champion, candidate)
            if loaded is not None:
                self._install_champion(loaded)
        else:
            self.load_failures.pop(CHAMPION, None)
        wanted = in_use.challenger if in_use.share or self.settings.shadow_share else None
        if wanted is None or wanted == in_use.champion:
            self.load_failures.pop(CHALLENGER, None)
            self._install_challenger(None, 0.0)
        elif _is(self.challenger, wanted):
            self._install_challenger(self.challenger, in_use.share)
        else:
            self._install_challenger(await self._wanted(CHALLENGER, wanted, candidate), in_use.share)
        self.in_use = in_use
        self._forget_orders()

    def discard(self, candidate: Loaded) -> None:
        """Let go of a version that was obtained, unless it is at work or stands by."""
        if candidate not in (self.champion, self.challenger, self.previous):
            self._is_loaded(candidate.backlog)
            self._forget_orders()

    @property
    def falls_back(self) -> bool:
        """Whether the champion fails so often that something else answers."""
        return self.champion is not None and self.champion.breaker.is_open()

    def says_why(self) -> bool:
        """Whether it is known why there is no champion, so that showing what is popular is all one can do."""
        return CHAMPION in self.load_failures or self.reader.failure is not None

    async def describe(self) -> dict[str, Any]:
        """Return versions, channels, and what this replica runs; what it last knew if the registry cannot be read."""
        in_use = self.in_use
        try:
            in_use = await self.reader.read(self.registry.in_use)
            self._versions = await self.reader.read(self.registry.versions)
        except RegistryUnavailableError as error:
            self.reader.say_failure(error)
        return {
            "versions": self._versions,
            "champion": in_use.champion,
            "challenger": in_use.challenger,
            "share": in_use.share,
            "serving": None if self.champion is None else self.champion.describe(),
            "canary": self.challenger.describe() if self.challenger is not None and self._share else None,
            "shadow": None if self.shadow is None else self.shadow.report(),
            "previous": None if self.previous is None else self.previous.describe(),
            "answering": self._answering(),
            "load_failure": self.load_failures.get(CHAMPION),
            "challenger_failure": self.load_failures.get(CHALLENGER),
            "registry_failure": self.reader.failure,
            "replica": f"{socket.gethostname()}:{os.getpid()}",
        }

    def catch_up_previous(self) -> None:
        """Let the version that stands by follow some of what changed."""
        if self.previous is not None:
            self.previous.catch_up(self._catalogue)

    def compare_unseen(self) -> None:
        """Let a challenger that nobody sees answer a request beside the champion, if one waits."""
        if self.shadow is not None and self.champion is not None and not self._share:
            self.shadow.compare_one(self._recommender, self.champion)

    def is_time_to_load_again(self) -> bool:
        """Whether a version in use that could not be loaded should be tried once more."""
        wanted = {self.in_use.champion, self.in_use.challenger}
        return any(version in wanted and time.monotonic() >= due for version, due in self._load_again_at.items())

    def _answering(self) -> str | None:
        if self.champion is None:
            return None
        if self.falls_back and self.previous is not None:
            return self.previous.version
        return self.champion.version

    def _install_champion(self, loaded: Loaded) -> None:
        before, was_previous = self.champion, loaded is self.previous
        if loaded is self.challenger:
            self.challenger, self.shadow, self._share = None, None, 0.0
        self._put_to_work(loaded, CHAMPION)
        self.champion, self.previous = loaded, None
        self.load_failures.pop(CHAMPION, None)
        # whoever goes back leaves a version that was not good
        if before is not None and not was_previous and self.settings.keep_previous:
            before.variant = PREVIOUS
            self.previous = before

    def _install_challenger(self, loaded: Loaded | None, share: float) -> None:
        if loaded is None:
            self.challenger, self.shadow, self._share = None, None, 0.0
            return
        if loaded is not self.challenger:
            if loaded is self.previous:
                self.previous = None
            self._put_to_work(loaded, CHALLENGER)
            self.shadow = None
        if self.shadow is None and not share:
            self.shadow = Shadow(loaded)
        self.challenger, self._share = loaded, share

    def _put_to_work(self, loaded: Loaded, variant: str) -> None:
        loaded.settle(self._catalogue)
        loaded.catch_up(self._catalogue)
        self._is_loaded(loaded.backlog)
        loaded.variant = variant

    def _forget_orders(self) -> None:
        """Only what is at work needs what is popular in order; where no model is, the order of none."""
        at_work = [loaded.version for loaded in (self.champion, self.challenger, self.previous) if loaded is not None]
        self._recommender.popular.keep_only(at_work or [None])

    def _is_loaded(self, backlog: Backlog) -> None:
        self._loading = [each for each in self._loading if each is not backlog]

    def _loaded(self, model: ServingModel, backlog: Backlog) -> Loaded:
        settings = self.settings
        breaker = Breaker(most_failures=settings.model_failures, retry_s=settings.model_retry_ms / 1000)
        return Loaded(model, breaker, backlog)

    async def _wanted(self, role: str, version: str, candidate: Loaded | None) -> Loaded | None:
        """Return a version others chose; one that cannot be loaded leaves everything as it was, and this is said."""
        if candidate is not None and candidate.version == version:
            return candidate
        if time.monotonic() < self._load_again_at.get(version, 0.0):
            return None
        try:
            loaded = await self.obtain(version, strict=False)
        except Exception as error:  # whatever it is: a bundle may be damaged in any way
            self._say_load_failure(role, version, error)
            return None
        self._load_again_at.pop(version, None)
        self.load_failures.pop(role, None)
        return loaded

    def _say_load_failure(self, role: str, version: str, error: Exception) -> None:
        self._load_again_at[version] = time.monotonic() + _FAILED_LOAD_AGAIN_S
        self.load_failures[role] = f"{role} {version} cannot be loaded: {error}"
        _LOG.error("%s", self.load_failures[role])


def _is(loaded: Loaded | None, version: str) -> bool:
    return loaded is not None and loaded.version == version
