"""The Ray Serve application: one fused deployment on the hot path."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from ray import serve
from ray.serve import Application
from ray.serve.schema import LoggingConfig

from serving.deployments.replica import Replica
from serving.settings import Settings

APPLICATION: Final = "roomrec"
"""Name of the application in Ray Serve."""

_REQUESTS_AT_ONCE: Final = 256
"""More than this wait in front of the replica."""


def build_app(args: Mapping[str, Any]) -> Application:
    """Build the application; ``serve run serving.app:build_app replicas=2`` works as well.

    Args:
        args: Values for ``Settings``; what is not given comes from the environment.

    Returns:
        The application, not yet running.

    Raises:
        ConfigurationError: If a value does not fit.
    """
    settings = Settings.read(args)
    deploy = serve.deployment(
        name="Replica",
        num_replicas=settings.replicas,
        max_ongoing_requests=_REQUESTS_AT_ONCE,
        ray_actor_options={"num_cpus": 0},
        health_check_period_s=5,
        graceful_shutdown_timeout_s=10,
        logging_config=LoggingConfig(log_level="WARNING", enable_access_log=False),
    )
    return deploy(serve.ingress()(Replica)).bind(msgspec.to_builtins(settings))
