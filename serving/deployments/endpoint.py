"""Everything one replica is made of, put together: log, state, catalogue, model and registry."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple, Self

from roomrec.bundle import Registry
from roomrec.errors import RoomRecError
from roomrec.events.schema import ROOM_EVENT_TYPES
from roomrec.events.validation import Rejection, validate_event
from serving.deployments.following import ModelFollower
from serving.deployments.loaded import CHAMPION
from serving.deployments.models import ServingModels
from serving.deployments.promotion import Promotion
from serving.deployments.recommender import Query, Recommender, Slate
from serving.deployments.room_view import describe_room, list_rooms
from serving.deployments.serving_model import ServingModel
from serving.deployments.steady_clock import SteadyClock
from serving.deployments.turns import Turns
from serving.deployments.viewers import ViewerCache
from serving.privacy.erasure import Erasure
from serving.privacy.pseudonyms import Pseudonyms
from serving.settings import Settings
from serving.state.event_log import ACCEPTED, Event
from serving.state.live_catalogue import LiveCatalogue
from serving.state.opening import Opened, open_state
from serving.state.records import EVENT_NAMES, UserRecord, refusals_of, unpack_user
from serving.state.slate_log import Sizes, SlateLog
from serving.state.writer import EventWriter

EVENTS_AT_ONCE = 100
"""Events that are read or validated without a pause, so that a long body makes no request wait."""

REJECTED = "rejected"
"""The event breaks the contract and was not stored; ``reason`` says how."""

_LOG = logging.getLogger(__name__)
_ORDER_PERIOD_S = 0.1
_ANSWERS_AT_ONCE = 1_000


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
        opened: Log and state.
        writer: Appends events with a log connection of its own.
        registry: Where bundles are.
        pseudonyms: Stand for user ids in everything that is kept; nothing but this class sees the ids.
        now_ms: The clock, epoch milliseconds.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        opened: Opened,
        writer: EventWriter,
        registry: Registry,
        pseudonyms: Pseudonyms,
        now_ms: Callable[[], int],
    ) -> None:
        self.settings = settings
        self._opened = opened
        self._store = opened.store
        self._writer = writer
        self._pseudonyms = pseudonyms
        self._now_ms = now_ms
        self.slate_log = SlateLog(settings.slates_path, sizes=Sizes(kept_bytes=settings.slate_log_bytes))
        self._erasure = Erasure(
            settings=settings,
            writer=writer,
            scrub=opened.scrub,
            erase_slates=self.slate_log.erase_user,
            now_ms=now_ms,
        )
        self.catalogue = LiveCatalogue(opened.store)
        self.turns = Turns()
        """for long work, such as reading events, beside requests"""
        self._viewers = ViewerCache(max_bytes=settings.viewer_cache_bytes)
        self._recommender = Recommender(self.catalogue, history_limit=settings.history_limit, now_ms=now_ms)
        self.models = ServingModels(
            registry=registry,
            settings=settings,
            catalogue=self.catalogue,
            recommender=self._recommender,
        )
        self.promotion = Promotion(self.models)
        self._follower = ModelFollower(self.models, poll_s=settings.poll_ms / 1000)
        self._watcher = ThreadPoolExecutor(1, thread_name_prefix="log-watcher")
        self._tasks: list[asyncio.Task[None]] = []

    @classmethod
    def open(
        cls, settings: Settings, *, champion_must_load: bool = True, now_ms: Callable[[], int] | None = None
    ) -> Self:
        """Open log, state and the champion.

        Args:
            settings: How to run.
            champion_must_load: Whether a champion that cannot be loaded is an error. Otherwise what is popular is
                shown, and ``/v1/models`` says why, until there is another champion.
            now_ms: The clock, epoch milliseconds; by default the machine's, which nobody turns back.

        Raises:
            StateError: If the log or the state cannot be opened.
            ConfigurationError: If the key of the pseudonyms is not the one the data was written with.
            BundleError: If there is a champion, it must be loaded and cannot be.
            RegistryError: If there is none, and ``allow_no_model`` is off.
        """
        opened = open_state(settings)
        try:
            pseudonyms = Pseudonyms.open(settings, opened.log)
            opened.store.catch_up()
        except BaseException:
            opened.close()
            raise
        writer = EventWriter(opened.appended, opened.store)
        endpoint = cls(
            settings=settings,
            opened=opened,
            writer=writer,
            registry=Registry(settings.registry_path),
            pseudonyms=pseudonyms,
            now_ms=now_ms or SteadyClock(),
        )
        try:
            endpoint.catalogue.refresh()
            endpoint.models.load_first(must_load=champion_must_load)
        except BaseException:
            endpoint.close_files()
            raise
        return endpoint

    async def start(self) -> None:
        """Begin to follow the registry and the log in the background."""
        self._follower.start()
        self._tasks = [asyncio.create_task(work()) for work in (self._watch, self._keep_in_order)]

    async def close(self) -> None:
        """Finish what was posted, then let go of everything."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._follower.close()
        self.close_files()

    def recommend(self, query: Query, *, is_hurried: bool = False) -> Slate:
        """Answer a request with everything that was accepted before it, by any replica.

        Args:
            query: What is asked.
            is_hurried: Whether to leave out what takes longest: too many wait.

        Raises:
            StateError: If the state cannot be read.
        """
        if self._pseudonyms:
            query = query._replace(user_id=self._pseudonyms.of(query.user_id))
        position, packed = self._store.read_user(query.user_id)
        if position != self.catalogue.position:
            self._follow(position)
        viewer = self._viewers.viewer(query.user_id, packed)
        chosen = self.models.choose(query.user_id)
        model, variant = (None, CHAMPION) if chosen is None else (chosen.model, chosen.variant)
        slate = self._recommender.recommend(query, viewer, model, variant=variant, is_hurried=is_hurried)
        self.models.observe(chosen, query, viewer, slate.degraded)
        if self.settings.slate_log:
            self.slate_log.append(query, slate, self._now_ms())
        return slate

    def rooms(self, *, limit: int, offset: int) -> dict[str, Any]:
        """Return some of the rooms that are live, by id.

        Raises:
            StateError: If the state cannot be read.
        """
        self._follow(None)
        return list_rooms(self.catalogue, limit=limit, offset=offset, at_ms=self._now_ms())

    def room(self, room_id: str, *, limit: int) -> dict[str, Any] | None:
        """Return what goes on in a room and what is sold there, None if it is not live.

        Raises:
            StateError: If the state cannot be read.
        """
        self._follow(None)
        return describe_room(self.catalogue, room_id, limit=limit, at_ms=self._now_ms())

    async def post(self, items: Sequence[Any], *, may_report_rooms: bool = True) -> list[Posted]:
        """Validate and store events; those accepted are durable, and visible to the next request on any replica.

        Args:
            items: What the body held; anything that is not a mapping, or a ``Rejection``, is rejected.
            may_report_rooms: Whether events of rooms and products are taken as well.

        Returns:
            What became of each.

        Raises:
            StateError: If events could not be stored; sending all of them again is safe.
        """
        received_at_ms = self._now_ms()
        posted: list[Posted] = []
        places: list[int] = []
        events: list[Event] = []
        for nth, item in enumerate(items):
            checked = _check(item, may_report_rooms=may_report_rooms, received_at_ms=received_at_ms)
            if isinstance(checked, Rejection):
                posted.append(Posted(_event_id(item), REJECTED, checked.reason))
            else:
                event = {name: value for name, value in checked.items() if value is not None}
                if self._pseudonyms and "user_id" in event:
                    event["user_id"] = self._pseudonyms.of(event["user_id"])
                posted.append(Posted(event["event_id"], ACCEPTED, None))
                places.append(nth)
                events.append(event)
            if nth % EVENTS_AT_ONCE == EVENTS_AT_ONCE - 1:
                await self.turns.take()
        if not events:
            return posted
        answers = await asyncio.wrap_future(self._writer.post(events))
        for nth, (place, answer) in enumerate(zip(places, answers, strict=True)):
            if answer != ACCEPTED:
                posted[place] = posted[place]._replace(status=answer)
            if nth % _ANSWERS_AT_ONCE == _ANSWERS_AT_ONCE - 1:
                await self.turns.take()
        if ACCEPTED in answers:
            self._follow(None)
        return posted

    def user(self, user_id: str) -> dict[str, Any] | None:
        """Return what the state knows of a viewer, None if nothing."""
        _, packed = self._store.read_user(self._pseudonyms.of(user_id))
        return None if packed is None else _describe_user(unpack_user(packed)) | {"user_id": user_id}

    async def erase_user(self, user_id: str) -> dict[str, Any]:
        """Remove a viewer from everything that is kept, and say what was removed where.

        Raises:
            StateError: If something cannot be written; asking again is safe.
        """
        stored_id = self._pseudonyms.of(user_id)
        self.models.forget(stored_id)
        self._viewers.forget(stored_id)
        return {"user_id": user_id} | await self._erasure.erase_user(stored_id)

    def erasures(self, limit: int) -> list[dict[str, Any]]:
        """Return the newest receipts of erasures, newest first; they name nobody.

        Raises:
            StateError: If they cannot be read.
        """
        return self._erasure.receipts(limit)

    def not_ready_because(self) -> str | None:
        """Return why this replica should get no requests, None if it is ready."""
        if self.model is None and not self.settings.allow_no_model and not self.models.says_why():
            return "there is no model"
        return self._opened.why_away()

    @property
    def model(self) -> ServingModel | None:
        """The champion, None if there is none."""
        champion = self.models.champion
        return None if champion is None else champion.model

    def _follow(self, position: Any) -> None:
        changes = self.catalogue.refresh(position)
        if changes is not None:
            self.models.follow(changes)
            self._recommender.popular.follow(changes.room_ids)

    async def _keep_in_order(self) -> None:
        while True:
            await asyncio.sleep(_ORDER_PERIOD_S)
            try:
                await self._recommender.popular.keep_in_order()
            except Exception:
                _LOG.exception("what is popular could not be put in order")

    async def _watch(self) -> None:
        poll_s = self.settings.poll_ms / 1000
        loop = asyncio.get_running_loop()
        pause_s = 0.0
        while True:
            await asyncio.sleep(pause_s)
            pause_s = poll_s
            try:
                self._follow(await loop.run_in_executor(self._watcher, partial(self._opened.follow, longest_s=poll_s)))
                pause_s = 0.0 if self._opened.tells_of_news else poll_s
            except RoomRecError as error:
                _LOG.warning("%s", error)
            except Exception:
                _LOG.exception("following the log failed")

    def close_files(self) -> None:
        """Let go of log and state; for an endpoint that was never started."""
        self.models.close_threads()
        self._watcher.shutdown()
        self._writer.close()
        self.slate_log.close()
        self._opened.close()


def _check(item: Any, *, may_report_rooms: bool, received_at_ms: int) -> Event | Rejection:
    if isinstance(item, Rejection):
        return item
    if not isinstance(item, dict):
        return Rejection("not_an_object")
    if not may_report_rooms and item.get("event_type") in ROOM_EVENT_TYPES:
        return Rejection("not_allowed:event_type")
    return validate_event(item, received_at_ms=received_at_ms)


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
