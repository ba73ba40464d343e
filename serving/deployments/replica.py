"""The thin Ray shell: one replica is one endpoint behind a listener of its own."""

import gc
import sys
import time
from typing import Any, Final

from serving.access.guard import Guard
from serving.api.application import RoomRecApplication
from serving.deployments.autoscaling import ONGOING_REQUESTS
from serving.deployments.endpoint import Endpoint
from serving.http.listener import Listener
from serving.http.shared_socket import SharedSocket
from serving.privacy.quiet_logs import log_quietly
from serving.settings import Settings

_SWITCH_INTERVAL_S: Final = 0.0005
_YOUNG_OBJECTS: Final = 50_000


class Replica:
    """One process that answers.

    Log, state, model and policy are all in here: one request is one process, without hops. Requests come straight
    from the socket that all replicas of a machine share; Ray Serve starts replicas, asks how they are, tells them to
    stop and decides how many there should be.

    Args:
        settings: Values for ``Settings``, as a dictionary since it travels to another process; the environment has the
            rest.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        log_quietly()
        # The thread that stores events must not keep a request waiting for the interpreter's usual 5 ms.
        sys.setswitchinterval(_SWITCH_INTERVAL_S)
        read = Settings.read(settings)
        # A champion was proven when the endpoint was started; if it was damaged since, showing what is popular is
        # better than a replica that cannot come back.
        self._endpoint = Endpoint.open(read, champion_must_load=False)
        self._leave_s, self._drain_s = read.leave_s, read.drain_s
        self._is_remote = "redis" in (read.event_log, read.state_store)
        self._shared = SharedSocket(read.host, read.port)
        self._application = RoomRecApplication(self._endpoint, address=(read.host, read.port), guard=Guard.open(read))
        self._listener = Listener(self._application, self._shared.socket, max_wait_s=read.max_wait_ms / 1000)
        # What was loaded stays: searching it for garbage again and again would stop requests for many milliseconds.
        gc.collect()
        gc.freeze()
        gc.set_threshold(_YOUNG_OBJECTS, 20, 100)
        self._listener.start()
        self._shared.begin_accepting()

    def check_health(self) -> None:
        """Tell Ray to replace this replica when another one in its place would do better.

        A Redis that is away is away for every replica: those that wait for it answer again the moment it is back, while
        new ones could not even start.

        Raises:
            RuntimeError: With the reason.
        """

        async def ask() -> str | None:
            return None if self._is_remote else self._endpoint.not_ready_because()

        if (reason := self._listener.call(ask())) is not None:
            raise RuntimeError(reason)

    def record_autoscaling_stats(self) -> dict[str, float]:
        """Say how much there is to do; Ray asks now and then."""
        return {ONGOING_REQUESTS: self._listener.take_ongoing()}

    def __del__(self) -> None:
        """Answer what was asked, then stop: Ray calls this when a replica is to go."""
        if hasattr(self, "_listener"):
            if not self._shared.end_accepting() and self._leave_s:
                self._application.is_leaving = True
                time.sleep(self._leave_s)
            self._listener.stop(drain_s=self._drain_s)
            self._shared.close()
            del self._listener  # Ray calls this, and so does the interpreter
