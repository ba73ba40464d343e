"""A version from the registry to a model that has answered, in a thread that leaves the requests their time."""

import threading
import time
from collections.abc import Collection, Sequence
from typing import Final

import numpy as np

from roomrec.bundle import InUse, Registry
from roomrec.errors import BundleError, RegistryError
from roomrec.features.pieces import no_pause
from serving.deployments.loaded import follow_or_skip
from serving.deployments.recommender import Query
from serving.deployments.serving_model import ServingModel
from serving.deployments.viewers import Viewer
from serving.state.live_catalogue import LiveCatalogue

Asked = tuple[Query, Viewer]
"""A request as it was asked, and what was known of the viewer."""

ROOMS_THAT_MAY_FAIL: Final = 0.01
"""A candidate that cannot encode more than this share of the live rooms is refused."""

_ROOMS_AT_ONCE: Final = 8
_ROOMS_AT_ONCE_ALONE: Final = 512
_REST: Final = 8.0
_PAUSE_S: Final = 0.005
_LONGEST_REST_S: Final = 0.1


def in_use_at_start(registry: Registry, *, allow_no_model: bool) -> InUse:
    """Return which versions an endpoint should start with.

    Raises:
        RegistryError: If there is no champion, and there must be one; or if the registry cannot be read.
    """
    in_use = registry.in_use()
    if in_use.champion is None and not allow_no_model:
        raise RegistryError(
            f"registry {registry.root} has no champion: publish and promote a bundle with "
            f"`python -m training.export`, or start with --allow-no-model"
        )
    return in_use


class ModelLoader:
    """Opens versions, encodes what is live in small steps, and lets a candidate answer what was asked lately.

    The interpreter runs one thread at a time, so a loader that never pauses would take half of every moment from the
    requests. After each step it sleeps a multiple of what the step took.

    Args:
        registry: Where bundles are.
        history_limit: Most events the state remembers of a viewer.
        cache_bytes: Most bytes a model remembers of viewers.
    """

    def __init__(self, registry: Registry, *, history_limit: int, cache_bytes: int) -> None:
        self._registry = registry
        self._cache_bytes = cache_bytes
        self._history_limit = history_limit
        self._closed = threading.Event()

    def open(self, version: str, *, gently: bool = True) -> ServingModel:
        """Open a version after checking every byte of it, and run both graphs once.

        Args:
            version: In the registry.
            gently: Whether requests are being answered meanwhile.

        Raises:
            BundleError: If it is altered, incompatible, does not run, or needs longer histories than are kept.
        """
        pause = self._pause if gently else no_pause
        bundle = self._registry.open(version, pause=pause)
        needed = bundle.manifest.max_sequence_length
        if needed > self._history_limit:
            raise BundleError(
                f"version {version} reads histories of {needed} events, the state keeps {self._history_limit}: "
                f"start the endpoint with ROOMREC_HISTORY_LIMIT={needed}"
            )
        return ServingModel(version, bundle, cache_bytes=self._cache_bytes, pause=pause)

    def follow(
        self, model: ServingModel, catalogue: LiveCatalogue, room_ids: Collection[str], *, gently: bool = True
    ) -> int:
        """Encode rooms, and return how many could not be.

        Args:
            model: A model that answers nobody yet.
            catalogue: Of this thread's own.
            room_ids: Rooms that may have changed.
            gently: Whether requests are being answered meanwhile.
        """
        ids = list(room_ids)
        failed = 0
        at_once = _ROOMS_AT_ONCE if gently else _ROOMS_AT_ONCE_ALONE
        for first in range(0, len(ids), at_once):
            started = time.perf_counter()
            failed += follow_or_skip(model, catalogue, ids[first : first + at_once])
            if gently:
                self._rest(started)
        return failed

    def load(self, version: str, catalogue: LiveCatalogue, asked: Sequence[Asked], *, strict: bool) -> ServingModel:
        """Open a version, encode what is live and rehearse it.

        Args:
            version: In the registry.
            catalogue: A copy of this thread's own.
            asked: Requests of late, which the model answers before it has to.
            strict: Whether rooms it cannot encode and requests it fails on refuse it. A version that others have
                made champion is taken with its weaknesses.

        Raises:
            BundleError: As ``open``; if strict, also for what it cannot do.
        """
        model = self.open(version)
        num_rooms = len(catalogue.rooms)
        failed = self.follow(model, catalogue, catalogue.rooms.keys())
        if strict and failed > num_rooms * ROOMS_THAT_MAY_FAIL:
            raise BundleError(f"version {version} cannot encode {failed} of {num_rooms} live rooms")
        failed = self._rehearse(model, catalogue, asked)
        if strict and failed:
            raise BundleError(f"version {version} fails on {failed} of the {len(asked)} requests asked last")
        return model

    def close(self) -> None:
        """Let a load that is under way end with an error."""
        self._closed.set()

    def _rehearse(self, model: ServingModel, catalogue: LiveCatalogue, asked: Sequence[Asked]) -> int:
        """Fill shelves and warm graphs with what is really asked; return how often the model failed."""
        failed = 0
        for query, viewer in asked:
            started = time.perf_counter()
            try:
                _answer(model, catalogue, query, viewer)
            except Exception:
                failed += 1
            self._rest(started)
        return failed

    def _pause(self) -> None:
        if self._closed.wait(_PAUSE_S):
            raise BundleError("the endpoint is closing")

    def _rest(self, started: float) -> None:
        if self._closed.wait(min(_REST * (time.perf_counter() - started), _LONGEST_REST_S)):
            raise BundleError("the endpoint is closing")


def _answer(model: ServingModel, catalogue: LiveCatalogue, query: Query, viewer: Viewer) -> None:
    """Do the model's part of an answer.

    Raises:
        ValueError: If the viewer's vector is not finite. Whatever else the graphs raise goes through.
    """
    vector = model.encode_viewer(viewer)
    if vector is None:
        return
    if not np.isfinite(vector).all():
        raise ValueError("user_vector holds numbers that are not finite")
    if query.surface == "room_feed":
        room_ids = model.rooms.search(vector, k=query.k).ids
    else:
        room_ids = [query.room_id] if query.room_id in catalogue.rooms else []
    model.rank_products(catalogue, [each for each in room_ids if each in catalogue.rooms], vector, k=query.k)
