"""The endpoint behind its own listener: the same answers as FastAPI's, refusals, and reading what one has written."""

import threading
import time
from collections.abc import Iterator

import httpx
import pytest

from serving.api.application import RoomRecApplication
from serving.api.routes import create_api
from serving.deployments.endpoint import Endpoint
from serving.http.listener import Listener
from serving.http.shared_socket import SharedSocket
from serving.settings import Settings
from tests.serving.conftest import TestClient
from tests.serving.evening import enter, event, opening
from tests.serving.shop import NOW_MS


class Served(httpx.Client):
    """A client of a listener, and of FastAPI's application over the same endpoint."""

    fastapi: TestClient


def served(settings: Settings) -> Iterator[Served]:
    with SharedSocket("127.0.0.1", 0) as shared:
        host, port = shared.socket.getsockname()
        endpoint = Endpoint.open(settings, now_ms=lambda: NOW_MS)
        application = RoomRecApplication(endpoint, address=(host, port))
        listener = Listener(application, shared.socket, max_wait_s=settings.max_wait_ms / 1000)
        listener.start()
        with Served(base_url=f"http://{host}:{port}") as client:
            # not entered, since the endpoint is started and closed by the listener
            client.fastapi = TestClient(create_api(endpoint), raise_server_exceptions=False)
            yield client
        listener.stop(drain_s=0)


@pytest.fixture
def listening(settings: Settings) -> Iterator[Served]:
    yield from served(settings)


ASKED = [
    ("POST", "/v1/recommendations", b'{"user_id": "u1", "k": 2}'),
    ("POST", "/v1/recommendations", b'{"user_id": "stranger"}'),
    ("POST", "/v1/recommendations", b'{"user_id": "u1", "surface": "room_products", "room_id": "scarf-room"}'),
    ("POST", "/v1/recommendations", b'{"user_id": "u1", "surface": "room_products"}'),
    ("POST", "/v1/recommendations", b'{"user_id": 7, "k": 0}'),
    ("POST", "/v1/recommendations", b'{"user_id": "u1", "k": 100000}'),
    ("POST", "/v1/recommendations", b"nonsense"),
    ("POST", "/v1/recommendations", b""),
    ("POST", "/v1/recommendations", b'{"user_id": "' + b"u" * 70_000 + b'"}'),
    ("POST", "/v1/events", b""),
    ("POST", "/v1/events", b"[1, "),
    ("POST", "/v1/events", b'[{"event_id": "x"}, 3]'),
    ("POST", "/v1/events", b"[" + b"{}," * 10_001 + b"{}]"),
    ("GET", "/v1/users/u1", b""),
    ("GET", "/v1/users/nobody%2Fat%20all", b""),
    ("GET", "/v1/models", b""),
    ("GET", "/healthz", b""),
    ("GET", "/readyz", b""),
    ("GET", "/nowhere?x=1", b""),
    ("GET", "/v1/recommendations", b""),
    ("PUT", "/v1/events", b""),
    ("GET", "/openapi.json", b""),
]


@pytest.mark.parametrize(("method", "path", "body"), ASKED, ids=[f"{nth}-{each[1]}" for nth, each in enumerate(ASKED)])
def test_it_answers_as_fastapi_does(listening: Served, method: str, path: str, body: bytes) -> None:
    listening.post("/v1/events", json=[*opening(), enter("u1", "tool-room", "tom")])
    answers = [each.request(method, path, content=body) for each in (listening, listening.fastapi)]
    assert answers[0].status_code == answers[1].status_code
    assert answers[0].headers["content-type"] == answers[1].headers["content-type"]
    if answers[0].status_code != 413:  # said by the listener before the body has come
        said = [answer.json() for answer in answers]
        for each in said:
            each.pop("request_id", None)
        assert said[0] == said[1]


def test_what_is_reported_counts_for_the_next_answer(listening: Served) -> None:
    posted = listening.post("/v1/events", json=[*opening(), enter("u1", "tool-room", "tom")]).json()
    assert posted["accepted"] == len(opening()) + 1
    slate = listening.post("/v1/recommendations", json={"user_id": "u1", "k": 1}).json()
    assert (slate["items"][0]["room_id"], slate["degraded"], slate["step"]) == ("tool-room", None, "full")
    listening.post("/v1/events", json=[event("room_end", room_id="tool-room")])
    slate = listening.post("/v1/recommendations", json={"user_id": "u1", "k": 3}).json()
    assert "tool-room" not in [item["room_id"] for item in slate["items"]]


def test_numbers_say_how_viewers_were_encoded(listening: Served) -> None:
    listening.post("/v1/events", json=[*opening(), enter("u1", "tool-room", "tom")])
    for _ in range(3):
        listening.post("/v1/recommendations", json={"user_id": "u1"})
    text = listening.get("/metrics").text
    # the graph of this shop knows no increment
    assert 'roomrec_viewer_encodings{how="full"} 1.0' in text
    assert 'roomrec_viewer_encodings{how="hit"} 2.0' in text
    assert "roomrec_live_rooms 3.0" in text


def test_answers_are_counted_however_they_were_given(listening: Served) -> None:
    listening.post("/v1/recommendations", json={"user_id": "u1"})
    listening.post("/v1/recommendations", content=b"x" * 70_000)
    listening.get("/v1/models")
    text = listening.get("/metrics").text
    assert 'roomrec_requests_total{route="/v1/recommendations",status="200"} 1.0' in text
    assert 'roomrec_requests_total{route="none",status="413"} 1.0' in text
    assert 'roomrec_requests_total{route="/v1/models",status="200"} 1.0' in text


def test_under_pressure_slates_say_less_and_the_rest_is_refused(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    import msgspec

    from serving.deployments.recommender import Recommender

    whole = Recommender.recommend

    def slowly(*given: object, **named: object) -> object:
        time.sleep(0.01)
        return whole(*given, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(Recommender, "recommend", slowly)
    for client in served(msgspec.structs.replace(settings, max_wait_ms=60.0)):
        client.post("/v1/events", json=[*opening(), enter("u1", "tool-room", "tom")])
        answers = list[httpx.Response]()

        def ask(url: httpx.URL = client.base_url, answers: list[httpx.Response] = answers) -> None:
            with httpx.Client(base_url=url) as own:
                answers.extend(own.post("/v1/recommendations", json={"user_id": "u1", "k": 3}) for _ in range(6))

        threads = [threading.Thread(target=ask) for _ in range(24)]
        for thread in threads:
            thread.start()
        reports = set[int]()
        while any(thread.is_alive() for thread in threads):
            reports.add(client.post("/v1/events", json=[enter("u2", "tool-room", "tom")]).status_code)
        assert reports == {200}  # what viewers did does not wait behind those who ask
        slates = [answer.json() for answer in answers if answer.status_code == 200]
        refused = [answer for answer in answers if answer.status_code != 200]
        assert {answer.status_code for answer in refused} == {503}
        assert {answer.headers["retry-after"] for answer in refused} == {"1"}
        assert {slate["step"] for slate in slates} == {"full", "sequence_only"}
        for slate in slates:
            assert slate["items"][0]["room_id"] == "tool-room"
            is_short = slate["step"] == "sequence_only"
            assert slate["degraded"] == ("sequence_only" if is_short else None)
            assert all((item["reasons"] == []) == is_short for item in slate["items"])


def test_reports_wait_for_one_another_not_slates_for_them_and_too_many_are_refused(settings: Settings) -> None:
    import msgspec

    for client in served(msgspec.structs.replace(settings, max_post_wait_ms=2.0)):
        client.post("/v1/events", json=[*opening(), enter("u1", "tool-room", "tom")])
        answers = list[httpx.Response]()

        def report(name: int, url: httpx.URL = client.base_url, answers: list[httpx.Response] = answers) -> None:
            with httpx.Client(base_url=url) as own:
                for nth in range(4):
                    events = [enter(f"v{name}-{nth}-{number}", "tool-room", "tom") for number in range(1_000)]
                    answers.append(own.post("/v1/events", json=events))

        threads = [threading.Thread(target=report, args=(name,)) for name in range(12)]
        for thread in threads:
            thread.start()
        slates = [client.post("/v1/recommendations", json={"user_id": "u1"}).status_code for _ in range(20)]
        for thread in threads:
            thread.join()
        assert set(slates) == {200}
        assert {answer.status_code for answer in answers} == {200, 503}
        refused = [answer for answer in answers if answer.status_code == 503]
        assert {answer.headers["retry-after"] for answer in refused} == {"1"}
        assert "reports of events" in refused[0].json()["detail"]
        accepted = sum(answer.json()["accepted"] for answer in answers if answer.status_code == 200)
        assert accepted == 1_000 * sum(answer.status_code == 200 for answer in answers)
