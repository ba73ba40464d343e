"""The Ray Serve application: one fused deployment on the hot path."""

from collections.abc import Mapping
from typing import Any, Final

from ray import serve
from ray.serve import Application
from ray.serve.config import AutoscalingConfig, AutoscalingPolicy
from ray.serve.schema import LoggingConfig

from serving.deployments.autoscaling import scale_by_ongoing_requests
from serving.deployments.replica import Replica
from serving.settings import Settings

APPLICATION: Final = "roomrec"
"""Name of the application in Ray Serve."""

_LOOK_BACK_S: Final = 12.0
"""Over how long the load is averaged before replicas are added or taken away; Ray asks for more than 10 s."""

_STOP_S: Final = 15.0
"""After leaving and draining, how long a replica may take to close its files before Ray kills it."""


def build_app(args: Mapping[str, Any]) -> Application:
    """Build the application; ``serve run serving.app:build_app replicas=2`` works as well.

    Args:
        args: Values for ``Settings``. What is not given comes from the environment: of this process for the number of
            replicas, of each replica's node for the rest, so that nodes may differ and secrets stay where they are.

    Returns:
        The application, not yet running.

    Raises:
        ConfigurationError: If a value does not fit.
    """
    settings = Settings.read(args)
    autoscaling = None
    if settings.max_replicas > settings.replicas:
        autoscaling = AutoscalingConfig(
            min_replicas=settings.replicas,
            max_replicas=settings.max_replicas,
            target_ongoing_requests=settings.target_ongoing_requests,
            upscale_delay_s=settings.upscale_delay_s,
            downscale_delay_s=settings.downscale_delay_s,
            look_back_period_s=_LOOK_BACK_S,
            policy=AutoscalingPolicy(policy_function=scale_by_ongoing_requests),
        )
    deploy = serve.deployment(
        name="Replica",
        num_replicas=None if autoscaling else settings.replicas,
        autoscaling_config=autoscaling,
        ray_actor_options={"num_cpus": settings.cpus_per_replica},
        health_check_period_s=2,
        health_check_timeout_s=20,
        graceful_shutdown_timeout_s=settings.leave_s + settings.drain_s + _STOP_S,
        graceful_shutdown_wait_loop_s=0.1,
        logging_config=LoggingConfig(log_level="WARNING", enable_access_log=False),
    )
    return deploy(Replica).bind(dict(args))
