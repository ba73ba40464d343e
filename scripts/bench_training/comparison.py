"""Segments and curves to the figures of the report."""

from collections.abc import Sequence
from statistics import median
from typing import Any, Final

_LAST_POINTS: Final = 3
"""A curve whose best value is among so many last points counts as still rising; they cover the last quarter of it."""

Curve = Sequence[Sequence[float]]
"""Points (seconds of training, CPU seconds of training, validation NDCG@10), in order."""


def best_of(curve: Curve) -> Sequence[float]:
    """Return the point at which a curve first reached its best value.

    Raises:
        ValueError: If the curve has no point.

    Example:
        >>> best_of([(5, 4.9, 0.01), (10, 9.8, 0.03), (15, 14.7, 0.03)])
        (10, 9.8, 0.03)
    """
    if not curve:
        raise ValueError("the curve has no point: train for longer")
    return max(curve, key=lambda point: (point[2], -point[0]))


def first_reaching(curve: Curve, value: float) -> Sequence[float] | None:
    """Return the first point that is as good as a value, nothing interpolated; None if the curve never gets there."""
    return next((point for point in curve if point[2] >= value), None)


def still_improving(run: dict[str, Any]) -> bool:
    """Say whether a run's time was up while its curve was still rising.

    Args:
        run: ``curve``, and ``ended_itself``: whether it stopped because it improved no more.

    Example:
        >>> curve = [(5, 4.9, 0.01), (10, 9.8, 0.02), (15, 14.7, 0.03), (21, 20, 0.02), (28, 27, 0.02), (35, 33, 0.02)]
        >>> still_improving({"curve": curve[:5], "ended_itself": False})
        True
        >>> still_improving({"curve": curve, "ended_itself": False})
        False
    """
    if run["ended_itself"] or not run["curve"]:
        return False
    return best_of(run["curve"]) in run["curve"][-_LAST_POINTS:]


def rates(
    segments: Sequence[dict[str, float]], *, rows_are_users: bool, targets_a_sequence: float, targets_of_pass: int
) -> dict[str, float]:
    """Turn segments into rates: the median over segments, so that one disturbed segment does not count.

    Args:
        segments: What a worker reported.
        rows_are_users: Whether a row is the newest ``length`` events of one user, as it is to the peers. RoomRec's rows
            are windows of which a long history has several; they count by their targets.
        targets_a_sequence: Mean targets of such a user's sequence: events that follow another one.
        targets_of_pass: Targets of a pass over all training events.
    """

    def sequences_per(unit: str) -> float:
        if rows_are_users:
            return median(segment["sequences"] / segment[unit] for segment in segments)
        return median(segment["targets"] / segment[unit] for segment in segments) / targets_a_sequence

    sequences_per_s = sequences_per("seconds")
    return {
        "sequences_per_s": sequences_per_s,
        "sequences_per_cpu_s": sequences_per("cpu_seconds"),
        "rows_per_s": median(segment["sequences"] / segment["seconds"] for segment in segments),
        "tokens_per_s": sequences_per_s * targets_a_sequence,
        "places_per_s": median(segment["places"] / segment["seconds"] for segment in segments),
        "seconds_per_pass": targets_of_pass / (sequences_per_s * targets_a_sequence),
        "padding_share": 1.0 - sum(s["targets"] for s in segments) / sum(s["places"] for s in segments),
    }


def compare(
    ours: dict[str, Any], peer: dict[str, Any], our_run: dict[str, Any] | None, peer_run: dict[str, Any] | None
) -> dict[str, Any]:
    """Compare RoomRec with one peer.

    Args:
        ours: ``sequences_per_s``, ``sequences_per_cpu_s`` and ``peak_memory_mb`` of RoomRec.
        peer: The same of the peer, at the same loss.
        our_run: ``curve``, ``quality``, ``ended_itself`` and the ``minutes`` given of RoomRec; None if not measured.
        peer_run: The same of the peer.

    Returns:
        Ratios: above 1 RoomRec is that many times faster; ``memory_ratio`` below 1 it needs less. Those of time to
        quality are None as long as RoomRec has not reached the peer's best, or nothing was measured. ``finished`` and
        ``peer_finished`` say who stopped by itself within the ``minutes``; the best of a peer that did not is its best
        so far.
    """
    found: dict[str, Any] = {
        "speedup": round(ours["sequences_per_s"] / peer["sequences_per_s"], 2),
        "speedup_by_cpu_time": round(ours["sequences_per_cpu_s"] / peer["sequences_per_cpu_s"], 2),
        "time_to_quality_speedup": None,
        "time_to_quality_speedup_by_cpu_time": None,
        "memory_ratio": round(ours["peak_memory_mb"] / peer["peak_memory_mb"], 3),
    }
    if our_run is None or peer_run is None or not our_run["curve"] or not peer_run["curve"]:
        return found
    theirs = best_of(peer_run["curve"])
    reached = first_reaching(our_run["curve"], theirs[2])
    found["peer_best_validation_ndcg@10"] = round(theirs[2], 4)
    found["peer_seconds_to_it"] = theirs[0]
    found["seconds_to_it"] = reached and reached[0]
    if reached is not None:
        found["time_to_quality_speedup"] = round(theirs[0] / reached[0], 2)
        found["time_to_quality_speedup_by_cpu_time"] = round(theirs[1] / reached[1], 2)
    found["minutes"] = peer_run["minutes"]
    found["finished"], found["peer_finished"] = our_run["ended_itself"], peer_run["ended_itself"]
    for name, run in (("quality", our_run), ("peer_quality", peer_run)):
        found[name] = {metric: round(value, 4) for metric, value in run["quality"].items()}
    return found


def fastest(peers: dict[str, dict[str, Any]]) -> str:
    """Return the name of who trains the most sequences a second."""
    return max(peers, key=lambda name: float(peers[name]["sequences_per_s"]))
