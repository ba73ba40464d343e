"""The OpenAPI schema and a live endpoint agree: whatever is asked, the status is documented and the answer conforms."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, seed
from hypothesis import settings as hypothesis_settings
from schemathesis import Case, GenerationMode
from schemathesis.checks import (
    content_type_conformance,
    not_a_server_error,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from schemathesis.schemas import BaseSchema

from serving.api.application import RoomRecApplication
from serving.deployments.endpoint import Endpoint
from serving.http.listener import Listener
from serving.http.shared_socket import SharedSocket
from serving.settings import Settings
from tests.serving.evening import opening
from tests.serving.shop import NOW_MS, publish_two

pytestmark = pytest.mark.filterwarnings("ignore::Warning")

EXAMPLES = 40
"""Of each operation; ``scripts/chaos --only schema-fuzz`` draws more, against a whole endpoint."""

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
"""Not whether all that a schema allows is accepted: one field may need another, and bad events stand in the answer."""

OPERATIONS = [
    ("POST", "/v1/recommendations"),
    ("POST", "/v1/events"),
    ("GET", "/v1/models"),
    ("POST", "/v1/models/{version}:promote"),
    ("POST", "/v1/models/{version}:canary"),
    ("DELETE", "/v1/models/{version}:canary"),
    ("POST", "/v1/models:rollback"),
    ("GET", "/v1/rooms"),
    ("GET", "/v1/rooms/{room_id}"),
    ("GET", "/v1/users/{user_id}"),
    ("DELETE", "/v1/users/{user_id}"),
    ("GET", "/v1/erasures"),
    ("GET", "/healthz"),
    ("GET", "/readyz"),
    ("GET", "/metrics"),
]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A listener as in a replica, with rooms."""
    folder: Path = tmp_path_factory.mktemp("fuzz")
    settings = Settings(registry=str(publish_two(folder)), data=str(folder / "serving"))
    shared = SharedSocket("127.0.0.1", 0)
    host, port = shared.socket.getsockname()
    listener = Listener(
        RoomRecApplication(Endpoint.open(settings, now_ms=lambda: NOW_MS), address=(host, port)), shared.socket
    )
    listener.start()
    url = f"http://{host}:{port}"
    assert httpx.post(f"{url}/v1/events", json=opening()).json()["rejected"] == 0
    yield url
    listener.stop(drain_s=0)
    shared.close()


@pytest.fixture(scope="module")
def schema(url: str) -> BaseSchema:
    return schemathesis.openapi.from_url(f"{url}/openapi.json")


def test_every_operation_is_tried(schema: BaseSchema) -> None:
    found = [operation.ok() for operation in schema.get_all_operations()]
    assert sorted((operation.method.upper(), operation.path) for operation in found) == sorted(OPERATIONS)


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_statuses_are_documented_and_answers_conform(
    schema: BaseSchema, method: str, path: str, mode: GenerationMode
) -> None:
    operation = schema[path][method]
    if mode is GenerationMode.NEGATIVE and not (operation.body or operation.query):
        pytest.skip("there is nothing one could ask wrongly")

    @seed(1)
    @hypothesis_settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(case=operation.as_strategy(generation_mode=mode))
    def ask(case: Case) -> None:
        case.call_and_validate(checks=CHECKS, timeout=10)

    ask()
