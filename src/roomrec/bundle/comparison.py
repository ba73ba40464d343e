"""Whether a bundle is worse than another, as far as what was measured of both can tell."""

import math
from typing import Any, Final, NamedTuple

from roomrec.bundle.manifest import Manifest

MEASURED_ON: Final = ("dataset_fingerprint", "split", "surface", "queries")
"""What has to be equal before two measurements may be compared, as ``training.evaluate`` reports it."""


class Comparison(NamedTuple):
    """What two manifests say of each other."""

    worse: bool
    """whether the candidate's metric is lower by more than is allowed; False where nothing can be compared"""
    text: str
    """the numbers, or why they cannot be compared"""


def compare_metrics(candidate: Manifest, champion: Manifest, *, metric: str, max_drop: float) -> Comparison:
    """Compare what was measured of two bundles on the same questions.

    Numbers measured on other data say nothing of each other: a new log may be harder. Such a pair is not comparable,
    and not called worse.

    Args:
        candidate: Who wants to become champion.
        champion: Who is.
        metric: Name of a metric of which more is better, for example ``ndcg@10``.
        max_drop: Share of the champion's metric that the candidate may lack, at least 0; 0.02 is two percent.

    Example::

        compare_metrics(new.manifest, old.manifest, metric="ndcg@10", max_drop=0.02)
        # Comparison(worse=True, text="ndcg@10 is 0.41, the champion's 0.47: 12.8 % lower, allowed are 2 %")
    """
    numbers = []
    for name, manifest in (("the candidate", candidate), ("the champion", champion)):
        value = _number(manifest.metrics.get(metric))
        if value is None:
            return Comparison(False, f"not compared: the manifest of {name} holds no {metric}")
        numbers.append(value)
    for key in MEASURED_ON:
        theirs = candidate.metrics.get(key), champion.metrics.get(key)
        if None in theirs:
            return Comparison(False, f"not compared: a manifest does not say {key} of its {metric}")
        if theirs[0] != theirs[1]:
            return Comparison(False, f"not compared: {metric} was measured with another {key}")
    new, old = numbers
    said = f"{metric} is {new:.4g}, the champion's {old:.4g}"
    if new >= old:
        return Comparison(False, said)
    drop = (old - new) / abs(old)
    return Comparison(drop > max_drop, f"{said}: {drop:.1%} lower, allowed are {max_drop:.1%}")


def _number(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and math.isfinite(value) else None
