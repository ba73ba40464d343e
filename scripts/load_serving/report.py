"""What a run found: one JSON object, and whether anything in it is a failure."""

from typing import Any

from scripts.load_serving.checks import Checks
from scripts.load_serving.connections import Pool
from scripts.load_serving.generator import is_late
from scripts.load_serving.recording import milliseconds
from scripts.load_serving.reporting import Reporter
from scripts.load_serving.traffic import Measured, Traffic
from scripts.load_serving.truth import Truth

NOT_VISIBLE_SHARE = 0.01
"""Probes after the bound that may miss what has come: visible within the bound is a promise of the 99th percentile."""


def summarise(
    *,
    measured: list[Measured],
    traffic: Traffic,
    reporter: Reporter,
    truth: Truth,
    checks: Checks,
    pool: Pool,
    bound_ms: float,
    cpu_s: float,
    asked: dict[str, Any],
) -> dict[str, Any]:
    """Return everything in one object, what matters most on top.

    Args:
        measured: Stretches, without warm-up.
        traffic: What was played.
        reporter: What became of events.
        truth: What was shown and must not.
        checks: What was looked for.
        pool: Which connections failed.
        bound_ms: The bound of ``truth`` and ``checks``.
        cpu_s: CPU seconds of this process.
        asked: How it was asked, repeated in the object.
    """
    stretches: list[dict[str, Any]] = []
    for stretch, seconds, recorders in measured:
        kinds = {kind: recorder.summary(seconds) for kind, recorder in recorders.items() if recorder.offered}
        late = is_late(*recorders.values())
        load = {"rate": stretch.rate} if not stretch.concurrency else {"concurrency": stretch.concurrency}
        stretches.append(
            {"name": stretch.name, **load, "seconds": round(seconds, 3), "generator_limited": late, **kinds}
        )
    first = stretches[0].get("recommendations", {}) if stretches else {}
    read_backs, at_once, after_bound = checks.read_backs(), checks.probes("at_once"), checks.probes("after_bound")
    found = {
        "latency_ms": first.get("latency_ms"),
        "offered_rps": first.get("offered_rps"),
        "achieved_rps": first.get("achieved_rps"),
        "answers_checked": truth.checked,
        "not_live_shown": truth.not_live_shown,
        "not_live_examples": truth.examples,
        "bound_ms": bound_ms,
        "still_shown_ms": milliseconds(truth.staleness),
        "still_shown": len(truth.staleness),
        **reporter.summary(),
        "acknowledged_ms": milliseconds(reporter.acknowledged),
        "read_backs": read_backs.checked,
        "read_backs_missed": read_backs.missed,
        "probes_at_once": at_once.checked,
        "probes_at_once_missed": at_once.missed,
        "probes_after_bound": after_bound.checked,
        "probes_after_bound_missed": after_bound.missed,
        "missed_examples": checks.missed,
        "checks_not_answered": checks.not_answered(),
        "degraded": dict(traffic.degraded.most_common()),
        "answers_unreadable": traffic.unreadable,
        "room_changes_skipped": traffic.changes_skipped,
        "connect_errors": pool.errors["connect"],
        "generator_limited": any(each["generator_limited"] for each in stretches),
        "generator_cpu_s": round(cpu_s, 2),
        "stretches": stretches,
        "asked": asked,
    }
    return found | {"failures": failures_of(found)}


def failures_of(found: dict[str, Any]) -> list[str]:
    """Return a sentence for each promise that was not kept.

    Args:
        found: The object of ``summarise``.
    """
    failures = []
    if found["not_live_shown"]:
        failures.append(f"{found['not_live_shown']} items were shown that must not be any more")
    if found["events_unacknowledged"]:
        failures.append(f"{found['events_unacknowledged']} events were never acknowledged")
    if found["events_rejected"]:
        failures.append(f"{found['events_rejected']} events were rejected: {found['event_problems']}")
    if found["events_duplicate_at_first"]:
        failures.append(
            f"{found['events_duplicate_at_first']} events were called duplicates when sent for the first time"
        )
    if found["read_backs_missed"]:
        failures.append(f"{found['read_backs_missed']} accepted events were not in the viewer's state")
    if found["probes_after_bound_missed"] > NOT_VISIBLE_SHARE * found["probes_after_bound"]:
        failures.append(
            f"{found['probes_after_bound_missed']} of {found['probes_after_bound']} changes were not visible "
            f"{found['bound_ms']:g} ms after they were accepted"
        )
    if found["answers_unreadable"]:
        failures.append(f"{found['answers_unreadable']} answers 200 were no slate")
    return failures
