"""A model in a replica's memory: the role it has, how it does, and how far behind the catalogue it is."""

import logging
from collections.abc import Collection, Iterable
from typing import Any, Final

from serving.deployments.backlog import AT_ONCE, Backlog
from serving.deployments.breaker import Breaker
from serving.deployments.recommender import CHAMPION
from serving.deployments.serving_model import ServingModel
from serving.state.live_catalogue import Changes, LiveCatalogue

CHALLENGER: Final = "challenger"
"""The variant that answers a share of the viewers."""

PREVIOUS: Final = "previous"
"""The variant that answers while the champion fails: the version before it."""

_LOG = logging.getLogger(__name__)


class Loaded:
    """One version at work or on standby.

    Args:
        model: The model.
        breaker: Says when it has failed too often.
        backlog: What has changed and the model has not followed yet.
    """

    def __init__(self, model: ServingModel, breaker: Breaker, backlog: Backlog) -> None:
        self.model = model
        self.breaker = breaker
        self.backlog = backlog
        self.variant = CHAMPION
        self.answered = 0
        self.failed = 0

    @property
    def version(self) -> str:
        """Its name in the registry."""
        return self.model.version

    def note(self, catalogue: LiveCatalogue, changes: Changes) -> None:
        """Let go of what is no longer there, at once; what is new or has changed waits for ``catch_up``."""
        self.model.drop(catalogue, room_ids=changes.room_ids, product_ids=changes.product_ids)
        self.backlog.add(catalogue, changes)

    def settle(self, catalogue: LiveCatalogue) -> None:
        """Let go of what has gone while the model only noted which rooms changed."""
        self.model.drop(catalogue, room_ids=self.backlog.room_ids, product_ids=None)

    def catch_up(self, catalogue: LiveCatalogue, *, at_most: int = AT_ONCE) -> None:
        """Follow some of the rooms and products that wait, the newest first."""
        room_ids, product_ids = self.backlog.take(catalogue, at_most=at_most)
        if room_ids:
            follow_or_skip(self.model, catalogue, room_ids, product_ids)

    def describe(self) -> dict[str, Any]:
        """Say what it is and how it does."""
        model = self.model
        return {
            "version": model.version,
            "variant": self.variant,
            "model_kind": model.manifest.model_kind,
            "created_at": model.manifest.created_at,
            "max_sequence_length": model.manifest.max_sequence_length,
            "embedding_dim": model.manifest.embedding_dim,
            "metrics": model.manifest.metrics,
            "provider": model.encoders.provider,
            "live_rooms": len(model.rooms),
            "answered": self.answered,
            "failed": self.failed,
            "is_failing": self.breaker.is_open(),
        }


def follow_or_skip(
    model: ServingModel,
    catalogue: LiveCatalogue,
    room_ids: Collection[str],
    product_ids: Collection[str] | None = None,
) -> int:
    """Let a model follow rooms that changed; one it cannot encode costs that room, not those beside it.

    Args:
        model: The model.
        catalogue: What is live now.
        room_ids: Rooms that may have changed.
        product_ids: Products of which something may have changed; None for any.

    Returns:
        How many rooms it cannot encode.
    """
    try:
        model.follow(catalogue, room_ids=room_ids, product_ids=product_ids)
        return 0
    except Exception as error:
        if len(room_ids) == 1:
            _LOG.error("model %s cannot encode a room: %s", model.version, error)
            return 1
    return sum(_cannot_follow(model, catalogue, room_ids))


def _cannot_follow(model: ServingModel, catalogue: LiveCatalogue, room_ids: Iterable[str]) -> Iterable[int]:
    failure: Exception | None = None
    for room_id in room_ids:
        try:
            model.follow(catalogue, room_ids=[room_id])
        except Exception as error:
            failure = error
            yield 1
    if failure is not None:
        _LOG.error("model %s cannot encode some of %d rooms: %s", model.version, len(list(room_ids)), failure)
