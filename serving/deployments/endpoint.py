"""Everything one replica is made of, put together: log, state, catalogue, model and registry."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple, Self

from roomrec.bundle import Registry
from roomrec.errors import BundleError, RegistryError, RoomRecError
from roomrec.events.validation import Rejection, validate_event
from serving.deployments.recommender import CHAMPION, Query, Recommender, Slate
from serving.deployments.serving_model import ServingModel
from serving.settings import Settings
from serving.state.event_log import ACCEPTED, Event
from serving.state.live_catalogue import LiveCatalogue
from serving.state.lmdb_state_store import LmdbStateStore
from serving.state.records import EVENT_NAMES, UserRecord, refusals_of, unpack_user
from serving.state.sqlite_event_log import SqliteEventLog
from serving.state.writer import EventWriter

REJECTED = "rejected"
"""The event breaks the contract and was not stored; ``reason`` says how."""

_LOG = logging.getLogger(__name__)


class Posted(NamedTuple):
    """What became of one event."""

    event_id: str | None
    status: str
    """accepted, duplicate or rejected"""
    reason: str | None


class Endpoint:
    """One replica without HTTP: what the routes call.

    Everything but the event writer runs on one event loop, so nothing here needs a lock.

    Args:
        settings: How to run.
        log: The event log, as this thread asks how far it goes.
        followed: The same log, as the state reads it. A connection of its own: statements that overlap on one
            connection share a snapshot, and the state would not see what was just committed.
        store: The state.
        writer: Appends events with a log connection of its own.
        registry: Where bundles are.
        now_ms: The clock, epoch milliseconds.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        log: SqliteEventLog,
        followed: SqliteEventLog,
        store: LmdbStateStore,
        writer: EventWriter,
        registry: Registry,
        now_ms: Callable[[], int],
    ) -> None:
        self.settings = settings
        self.model: ServingModel | None = None
        self.load_failure: str | None = None
        self._log = log
        self._followed = followed
        self._store = store
        self._writer = writer
        self._registry = registry
        self._now_ms = now_ms
        self.catalogue = LiveCatalogue(store)
        self._recommender = Recommender(self.catalogue, history_limit=settings.history_limit, now_ms=now_ms)
        self._wanted: str | None = None
        self._changed_while_loading: set[str] | None = None
        self._loading = asyncio.Lock()
        self._watching: asyncio.Task[None] | None = None

    @classmethod
    def open(
        cls, settings: Settings, *, champion_must_load: bool = True, now_ms: Callable[[], int] | None = None
    ) -> Self:
        """Open log, state and the champion.

        Args:
            settings: How to run.
            champion_must_load: Whether a champion that cannot be loaded is an error. Otherwise what is popular is
                shown, and ``/v1/models`` says why, until there is another champion.
            now_ms: The clock, epoch milliseconds; by default the machine's.

        Raises:
            StateError: If the log or the state cannot be opened.
            BundleError: If there is a champion, it must be loaded and cannot be.
            RegistryError: If there is none, and ``allow_no_model`` is off.
        """
        log, followed = (SqliteEventLog(settings.event_log_path) for _ in range(2))
        store = LmdbStateStore(
            settings.state_path, followed, history_limit=settings.history_limit, map_bytes=settings.state_bytes
        )
        store.catch_up()
        writer = EventWriter(SqliteEventLog(settings.event_log_path), store)
        endpoint = cls(
            settings=settings,
            log=log,
            followed=followed,
            store=store,
            writer=writer,
            registry=Registry(settings.registry_path),
            now_ms=now_ms or (lambda: time.time_ns() // 1_000_000),
        )
        try:
            endpoint.catalogue.refresh()
            endpoint._load_first(must_load=champion_must_load)
        except BaseException:
            endpoint.close_files()
            raise
        return endpoint

    async def start(self) -> None:
        """Begin to follow the registry and the log in the background."""
        self._watching = asyncio.create_task(self._watch())

    async def close(self) -> None:
        """Finish what was posted, then let go of everything."""
        if self._watching is not None:
            self._watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watching
            self._watching = None
        self.close_files()

    def recommend(self, query: Query) -> Slate:
        """Answer a request with everything that was accepted before it, by any replica.

        Raises:
            StateError: If the state cannot be read.
        """
        position, packed = self._store.read_user(query.user_id)
        if position != self.catalogue.position:
            self._follow(position)
        user = None if packed is None else unpack_user(packed)
        return self._recommender.recommend(query, user, self.model)

    async def post(self, items: Sequence[Any]) -> list[Posted]:
        """Validate and store events; those accepted are durable, and visible to the next request on any replica.

        Args:
            items: What the body held; anything that is not a mapping, or a ``Rejection``, is rejected.

        Returns:
            What became of each.

        Raises:
            StateError: If events could not be stored; sending all of them again is safe.
        """
        received_at_ms = self._now_ms()
        checked: list[Event | Rejection] = []
        for item in items:
            if isinstance(item, Rejection):
                checked.append(item)
            elif isinstance(item, dict):
                checked.append(validate_event(item, received_at_ms=received_at_ms))
            else:
                checked.append(Rejection("not_an_object"))
        events = [
            {name: value for name, value in event.items() if value is not None}
            for event in checked
            if not isinstance(event, Rejection)
        ]
        answers: list[str] = []
        if events:
            answers = await asyncio.wrap_future(self._writer.post(events))
        stored = iter(answers)
        posted = []
        for item, event in zip(items, checked, strict=True):
            if isinstance(event, Rejection):
                posted.append(Posted(_event_id(item), REJECTED, event.reason))
            else:
                posted.append(Posted(event["event_id"], next(stored), None))
        if any(each.status == ACCEPTED for each in posted):
            self._follow(None)
        return posted

    def models(self) -> dict[str, Any]:
        """Return versions, channels and what this replica runs."""
        return {
            "versions": self._registry.versions(),
            "champion": self._registry.channel("champion"),
            "challenger": self._registry.channel("challenger"),
            "serving": None if self.model is None else self._describe(self.model),
            "load_failure": self.load_failure,
        }

    async def promote(self, version: str) -> dict[str, Any]:
        """Make a version champion after proving that it runs; other replicas follow within ``poll_ms``.

        Raises:
            RegistryError: If there is no such version.
            BundleError: If the bundle is altered, incompatible, does not run, or needs longer histories than are kept.
        """
        if version not in self._registry.versions():
            raise RegistryError(f"version {version!r} does not exist; published are {self._registry.versions()}")
        async with self._loading:
            await self._change_model(version, commit=lambda: self._registry.promote(version))
        return self.models()

    async def rollback(self) -> dict[str, Any]:
        """Go back to the champion before this one; other replicas follow within ``poll_ms``.

        Raises:
            RegistryError: If there was none.
            BundleError: If it cannot be loaded any more; the champion stays what it was.
        """
        async with self._loading:
            before = self._registry.channel("champion")
            version = await asyncio.to_thread(self._registry.rollback)
            try:
                await self._change_model(version)
            except BundleError:
                if before is not None:
                    await asyncio.to_thread(self._registry.promote, before)
                raise
        return self.models()

    def user(self, user_id: str) -> dict[str, Any] | None:
        """Return what the state knows of a viewer, None if nothing."""
        _, packed = self._store.read_user(user_id)
        return None if packed is None else _describe_user(unpack_user(packed))

    async def erase_user(self, user_id: str) -> dict[str, Any]:
        """Remove a viewer from the log and the state, and say what was removed where.

        Raises:
            StateError: If the log or the state cannot be written; asking again is safe.
        """
        logged, known = await asyncio.wrap_future(self._writer.erase_user(user_id))
        return {
            "user_id": user_id,
            "erased_at_ms": self._now_ms(),
            "removed": {
                "event_log": {"events": logged},
                "state": {"history_events": known.events, "follows": known.follows, "refusals": known.refusals},
            },
            "not_removed": [
                "event files already exported for training",
                "bundles trained before now, whose vocabulary may name the viewer",
                "decayed counts of enters, which name nobody",
            ],
        }

    def not_ready_because(self) -> str | None:
        """Return why this replica should get no requests, None if it is ready."""
        if self.model is None and not self.settings.allow_no_model and self.load_failure is None:
            return "there is no model"
        try:
            self._store.position()
        except RoomRecError as error:
            return str(error)
        return None

    def _follow(self, position: Any) -> None:
        changes = self.catalogue.refresh(position)
        if changes is None:
            return
        if self._changed_while_loading is not None:
            self._changed_while_loading |= changes.room_ids
        if self.model is not None:
            self._follow_model(self.model, changes.room_ids, changes.product_ids)

    def _follow_model(
        self, model: ServingModel, room_ids: Collection[str], product_ids: Collection[str] | None = None
    ) -> None:
        try:
            model.follow(self.catalogue, room_ids=room_ids, product_ids=product_ids)
        except Exception:
            _LOG.exception("model %s cannot encode %d rooms that changed", model.version, len(room_ids))

    def _load_first(self, *, must_load: bool) -> None:
        version = self._registry.channel("champion")
        if version is None:
            if not self.settings.allow_no_model:
                raise RegistryError(
                    f"registry {self._registry.root} has no champion: publish and promote a bundle with "
                    f"`python -m training.export`, or start with --allow-no-model"
                )
            return
        self._wanted = version
        try:
            self.model = self._open_model(version, self.catalogue)
        except Exception as error:  # whatever it is: a bundle may be damaged in any way
            if must_load:
                raise
            self._say_load_failure(version, error)

    async def _change_model(self, version: str, *, commit: Callable[[], None] | None = None) -> None:
        """Load a version beside the one that answers, so that requests go on meanwhile; then swap them."""
        self._changed_while_loading = set()
        try:
            model = await asyncio.to_thread(self._open_model, version, self.catalogue.copy())
            if commit is not None:
                await asyncio.to_thread(commit)
            self._follow(None)
            self._follow_model(model, self._changed_while_loading)
            self._wanted, self.model, self.load_failure = version, model, None
        finally:
            self._changed_while_loading = None

    def _open_model(self, version: str, catalogue: LiveCatalogue) -> ServingModel:
        bundle = self._registry.open(version)
        needed = bundle.manifest.max_sequence_length
        if needed > self.settings.history_limit:
            raise BundleError(
                f"version {version} reads histories of {needed} events, the state keeps {self.settings.history_limit}: "
                f"start the endpoint with ROOMREC_HISTORY_LIMIT={needed}"
            )
        return ServingModel.open(version, bundle, catalogue)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self.settings.poll_ms / 1000)
            try:
                await self._follow_registry()
                if self._log.last_seq() > self._store.position().applied_seq:
                    await asyncio.to_thread(self._store.catch_up)
                self._follow(None)
            except RoomRecError as error:
                _LOG.warning("%s", error)
            except Exception:
                _LOG.exception("following registry and log failed")

    async def _follow_registry(self) -> None:
        if self._registry.channel("champion") == self._wanted:
            return
        async with self._loading:
            version = self._registry.channel("champion")
            if version is None or version == self._wanted:
                return
            self._wanted = version
            try:
                await self._change_model(version)
            except Exception as error:  # whatever it is, the version before goes on answering, and this is said
                self._say_load_failure(version, error)

    def _say_load_failure(self, version: str, error: Exception) -> None:
        self.load_failure = f"champion {version} cannot be loaded: {error}"
        _LOG.error("%s", self.load_failure)

    def _describe(self, model: ServingModel) -> dict[str, Any]:
        return {
            "version": model.version,
            "variant": CHAMPION,
            "model_kind": model.manifest.model_kind,
            "created_at": model.manifest.created_at,
            "max_sequence_length": model.manifest.max_sequence_length,
            "embedding_dim": model.manifest.embedding_dim,
            "metrics": model.manifest.metrics,
            "provider": model.encoders.provider,
            "live_rooms": len(model.rooms),
        }

    def close_files(self) -> None:
        """Let go of log and state; for an endpoint that was never started."""
        self._writer.close()
        self._store.close()
        self._followed.close()
        self._log.close()


def _event_id(item: Any) -> str | None:
    given = item.get("event_id") if isinstance(item, dict) else None
    return given[:128] if isinstance(given, str) else None


def _describe_user(user: UserRecord) -> dict[str, Any]:
    return {
        "user_id": user.user_id,
        "followed_streamers": sorted(user.follows),
        "not_interested": {name: sorted(ids) for name, ids in refusals_of(user)._asdict().items()},
        "history": [
            {
                "event_id": event.event_id,
                "event_type": EVENT_NAMES[event.event_type],
                "occurred_at_ms": event.occurred_at_ms,
                "received_at_ms": event.received_at_ms,
                "streamer_id": event.streamer_id,
                "product_id": event.product_id,
                "room_id": event.room_id,
                "watch_time_ms": None if event.watch_time_ms < 0 else event.watch_time_ms,
            }
            for event in user.events
        ],
    }
