"""All faults, one after another on as few endpoints as possible, and what they came to."""

import contextlib
import dataclasses
import platform
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from rich.table import Table

from scripts.chaos_faults import clients, killing, models, starving
from scripts.chaos_faults.endpoint import ChaosError, Endpoint
from scripts.chaos_faults.scene import Fault, Outcome, suffer
from scripts.chaos_faults.stages import STAGES, why_not

FAULTS: Final[dict[str, Fault]] = {
    fault.name: fault for fault in (*killing.FAULTS, *clients.FAULTS, *models.FAULTS, *starving.FAULTS)
}
"""By name, in the order in which they are tried."""


@contextlib.contextmanager
def staged(name: str) -> Iterator[Endpoint]:
    """Start an endpoint of a kind; nothing of it is left afterwards."""
    making = tempfile.TemporaryDirectory(prefix="roomrec-chaos-", ignore_cleanup_errors=True)
    with making as folder, STAGES[name](Path(folder) / "endpoint") as endpoint:
        yield endpoint


def try_faults(
    names: Iterable[str],
    *,
    seconds: float,
    seed: int,
    on_begin: Callable[[str], None],
    on_end: Callable[[Outcome], None],
) -> list[Outcome]:
    """Try faults, each on the endpoint of the one before if that is of its kind and whole.

    Args:
        names: Which.
        seconds: How long each.
        seed: Decides loads and faults.
        on_begin: Told what is being done.
        on_end: Told what was found.
    """
    outcomes: list[Outcome] = []
    with contextlib.ExitStack() as stack:
        endpoint, stage = None, ""
        for name in names:
            fault = FAULTS[name]
            if (reason := why_not(fault.needs, fault.stage)) is not None:
                on_begin(f"{name} is not tried: {reason}")
                continue
            try:
                if endpoint is None or stage != fault.stage:
                    stack.close()
                    endpoint, stage = None, fault.stage
                    on_begin(f"starting an endpoint ({stage})")
                    endpoint = stack.enter_context(staged(stage))
                on_begin(f"{name}: {fault.says}")
                outcome = suffer(fault, endpoint, seconds=seconds, seed=seed)
            except ChaosError as error:
                outcome = Outcome(fault.name, fault.says, "", {}, 0, 0, 0, 0, 0.0, None, {}, [str(error)])
            if outcome.broken:  # the next one shall not suffer for it
                stack.close()
                endpoint = None
            outcomes.append(outcome)
            on_end(outcome)
    return outcomes


def summarise(
    outcomes: list[Outcome], *, asked: Iterable[str], seconds: float, seed: int, took_s: float
) -> dict[str, Any]:
    """Return one object about all that was tried, what matters most on top.

    Args:
        outcomes: What was found.
        asked: Faults that were to be tried; some cannot be on every machine.
        seconds: How long each.
        seed: What decided loads and faults.
        took_s: How long all of it took.
    """
    sums = {
        name: sum(getattr(outcome, name) for outcome in outcomes)
        for name in ("events_acknowledged", "events_lost", "events_doubled", "not_live_shown")
    }
    broken = [f"{outcome.fault}: {sentence}" for outcome in outcomes for sentence in outcome.broken]
    return sums | {
        "faults": {outcome.fault: dataclasses.asdict(outcome) for outcome in outcomes},
        "not_tried": [name for name in asked if name not in {outcome.fault for outcome in outcomes}],
        "broken": broken,
        "seconds": seconds,
        "seed": seed,
        "took_s": round(took_s, 1),
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
    }


def table_of(outcomes: list[Outcome]) -> Table:
    """Draw what was found."""
    table = Table(title="what clients saw of each fault", title_justify="left")
    table.add_column("fault", no_wrap=True)
    for name in ("load", "errors seen by clients"):
        table.add_column(name, overflow="fold")
    for name in ("acknowledged", "lost", "doubled", "not live shown", "p99 ms", "recovered in s"):
        table.add_column(name, justify="right")
    for each in outcomes:
        errors = ", ".join(f"{count} {kind}" for kind, count in each.errors.items()) or "none"
        p99 = "" if each.p99_ms is None else f"{each.p99_ms:.0f}"
        counts = (each.events_acknowledged, each.events_lost, each.events_doubled, each.not_live_shown)
        style = "red" if each.broken else ""
        table.add_row(each.fault, each.load, errors, *map(str, counts), p99, f"{each.recovered_s:.1f}", style=style)
    return table
