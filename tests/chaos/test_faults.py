"""Each fault for a few seconds: what is promised holds while an endpoint of two replicas is hurt under load."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from scripts.chaos_faults.endpoint import Endpoint
from scripts.chaos_faults.running import FAULTS, staged
from scripts.chaos_faults.scene import suffer
from scripts.chaos_faults.stages import why_not

pytestmark = [pytest.mark.chaos, pytest.mark.ray]

SECONDS = 3.0


class Stage:
    """The endpoint of the fault before, if it fits and is whole."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._name: str | None = None
        self._endpoint: Endpoint | None = None

    def endpoint(self, name: str) -> Endpoint:
        if self._endpoint is None or self._name != name:
            self.clear()
            self._endpoint, self._name = self._stack.enter_context(staged(name)), name
        return self._endpoint

    def clear(self) -> None:
        self._stack.close()
        self._endpoint = None


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    stage = Stage()
    yield stage
    stage.clear()


@pytest.mark.parametrize("name", FAULTS)
def test_promises_hold(stage: Stage, name: str) -> None:
    fault = FAULTS[name]
    if (reason := why_not(fault.needs, fault.stage)) is not None:
        pytest.skip(reason)
    try:
        outcome = suffer(fault, stage.endpoint(fault.stage), seconds=SECONDS, seed=1)
        assert outcome.broken == []
    except BaseException:
        stage.clear()
        raise
    assert outcome.events_acknowledged > 0
    assert (outcome.events_lost, outcome.events_doubled, outcome.not_live_shown) == (0, 0, 0)
