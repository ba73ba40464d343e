"""The thin Ray shell: one replica is one endpoint behind one ASGI application."""

from typing import Any

from fastapi import FastAPI

from serving.api.routes import create_api
from serving.deployments.endpoint import Endpoint
from serving.settings import Settings


class Replica:
    """One process that answers. Ray Serve builds it, asks it how it is, and routes HTTP to its application.

    Log, state, model and policy are all in here: one request is one process, without hops.

    Args:
        settings: ``Settings`` as a dictionary, since it travels to another process.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        # A champion was proven when the endpoint was started; if it was damaged since, showing what is popular is
        # better than a replica that cannot come back.
        self._endpoint = Endpoint.open(Settings.read(settings), champion_must_load=False)

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Return the application, once the endpoint is open."""
        return create_api(self._endpoint)

    def check_health(self) -> None:
        """Tell Ray to replace this replica when it could answer nothing any more.

        Raises:
            RuntimeError: With the reason.
        """
        if (reason := self._endpoint.not_ready_because()) is not None:
            raise RuntimeError(reason)
