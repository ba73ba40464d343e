"""How many replicas there should be: Ray Serve does not see the requests, so replicas tell it."""

import math
from collections.abc import Mapping
from typing import Any, Final

ONGOING_REQUESTS: Final = "ongoing_requests"
"""What a replica tells: requests waiting or being answered, on average since it was last asked."""


def replicas_for(ongoing_requests: float, *, target_ongoing_requests: float) -> int:
    """Return how many replicas share some ongoing requests so that each has the target or less.

    Example:
        >>> replicas_for(7.2, target_ongoing_requests=2.0)
        4
    """
    return max(math.ceil(ongoing_requests / target_ongoing_requests), 1)


def scale_by_ongoing_requests(context: Any) -> tuple[int, dict[str, Any]]:
    """Decide as Ray Serve's own policy does, from what replicas say instead of what its proxies count.

    Ray keeps the answer between the least and the most, and waits as ``upscale_delay_s`` and ``downscale_delay_s`` say.

    Args:
        context: A ``ray.serve.config.AutoscalingContext``.

    Returns:
        The number of replicas, and no state to keep.
    """
    told: Mapping[Any, float] = (context.aggregated_metrics or {}).get(ONGOING_REQUESTS, {})
    if not told:  # nobody has reported yet
        return context.target_num_replicas, {}
    wanted = replicas_for(sum(told.values()), target_ongoing_requests=context.config.get_target_ongoing_requests())
    return wanted, {}
