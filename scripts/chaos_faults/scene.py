"""One fault under load: what it is, what it does to whom, and what was found afterwards."""

import dataclasses
import random
import time
from collections.abc import Callable, Iterable
from typing import Any, Final

from scripts.chaos_faults.books import compare_log, state_differs
from scripts.chaos_faults.endpoint import ChaosError, Endpoint
from scripts.chaos_faults.load import Load, errors_of
from scripts.chaos_faults.probes import Probes

OVERLOAD: Final = frozenset({"503", "429"})
"""Answers that any endpoint may give at any time, with Retry-After."""

KILLED: Final = frozenset({"reset", "connect"})
"""What clients of a killed process meet."""


@dataclasses.dataclass
class Scene:
    """What a fault works with.

    Attributes:
        endpoint: The victim.
        probes: A client that takes notes.
        seconds: How long the fault should last, about.
        random: Decides what the fault leaves open.
        broken: Promises that were not kept, a sentence each.
        told: Figures of this fault.
        recovered_s: Seconds until all was well again, from when the cause was gone.
    """

    endpoint: Endpoint
    probes: Probes
    seconds: float
    random: random.Random
    broken: list[str] = dataclasses.field(default_factory=list)
    told: dict[str, Any] = dataclasses.field(default_factory=dict)
    recovered_s: float = 0.0

    def expect(self, is_kept: bool, otherwise: str) -> None:
        """Note a promise that was not kept."""
        if not is_kept:
            self.broken.append(otherwise)

    def recovers(self, since: float, *, within_s: float = 60.0) -> None:
        """Wait until every replica answers and the probes are well again; the longest recovery counts.

        Args:
            since: When the cause was gone, by ``time.monotonic``.
            within_s: More is a promise not kept.
        """
        try:
            self.endpoint.wait_for_replicas(within_s=within_s)
        except ChaosError as error:
            self.broken.append(str(error))
            return
        complete = time.monotonic()
        well = self.probes.well_since(since, within_s=within_s)
        if well is None:
            self.broken.append(f"requests still fail {within_s:g} s later: {self.probes.seen[-4:]}")
            return
        self.recovered_s = max(self.recovered_s, complete - since, well - since)


@dataclasses.dataclass(frozen=True)
class Fault:
    """A fault that is tried on an endpoint under load.

    Attributes:
        name: As in ``--only``.
        says: What happens, in a few words.
        injure: Makes it happen, and waits until it is over.
        stage: Name of the kind of endpoint it needs.
        may_see: Errors that clients may see, beside overload.
        rate: Requests for slates a second.
        events: Viewers' events for each of them.
        room_changes: Changes of rooms a second.
        compares_state: Whether the state must equal one made again from the log.
        needs: Programs without which it cannot be tried.
        lasts: How long, in parts of what was asked for.
    """

    name: str
    says: str
    injure: Callable[[Scene], None]
    stage: str = "plain"
    may_see: Iterable[str] = ()
    rate: float = 50.0
    events: float = 10.0
    room_changes: float = 10.0
    compares_state: bool = True
    needs: tuple[str, ...] = ()
    lasts: float = 1.0


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a fault did."""

    fault: str
    says: str
    load: str
    errors: dict[str, int]
    events_acknowledged: int
    events_lost: int
    events_doubled: int
    not_live_shown: int
    recovered_s: float
    p99_ms: float | None
    """of slates, from the intended instant, during all of it"""
    told: dict[str, Any]
    broken: list[str]
    """promises that were not kept"""


def suffer(fault: Fault, endpoint: Endpoint, *, seconds: float, seed: int) -> Outcome:
    """Let a fault happen to an endpoint under load, and look at everything afterwards.

    Args:
        fault: What happens.
        endpoint: To whom; it should be whole.
        seconds: How long.
        seed: Decides load and fault.

    Raises:
        ChaosError: If it could not be tried.
    """
    run_id = f"{fault.name}-{time.time_ns() // 1_000_000:x}"
    load = Load(
        endpoint,
        run_id,
        rate=fault.rate,
        events_per_recommendation=fault.events,
        room_changes=fault.room_changes,
        seed=seed,
    )
    with load, Probes(endpoint, run_id) as probes:
        scene = Scene(endpoint, probes, seconds * fault.lasts, random.Random(seed))
        fault.injure(scene)
        found = load.finish()
    errors = errors_of(found) + probes.errors()
    _judge(scene, found, set(errors) - OVERLOAD - set(fault.may_see))
    books = compare_log(endpoint.settings, load.acknowledged() | probes.acknowledged)
    scene.expect(not books.lost, f"{len(books.lost)} acknowledged events are lost, as {books.lost[:3]}")
    scene.expect(not books.doubled, f"{len(books.doubled)} events are in the log twice, as {books.doubled[:3]}")
    if fault.compares_state and (tables := state_differs(endpoint.settings)):
        scene.broken.append(f"the state differs from one made again from the log in {', '.join(tables)}")
    latency = found["latency_ms"]
    return Outcome(
        fault=fault.name,
        says=fault.says,
        load=load.description,
        errors=dict(errors.most_common()),
        events_acknowledged=books.acknowledged,
        events_lost=len(books.lost),
        events_doubled=len(books.doubled),
        not_live_shown=found["not_live_shown"],
        recovered_s=round(scene.recovered_s, 2),
        p99_ms=None if latency is None else latency["p99"],
        told=scene.told,
        broken=scene.broken,
    )


def _judge(scene: Scene, found: dict[str, Any], unexpected: set[str]) -> None:
    scene.expect(not unexpected, f"clients saw {', '.join(sorted(unexpected))}")
    scene.broken += found["failures"]
    if found["not_live_examples"]:
        scene.told["not_live_examples"] = found["not_live_examples"]
