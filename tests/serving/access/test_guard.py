import json
import logging
import os
from pathlib import Path

import pytest

from roomrec.errors import ConfigurationError
from serving.access.access_file import AccessFile, read_access_file
from serving.access.guard import Guard, Refusal
from serving.access.roles import RULES, find_rule
from serving.settings import Settings
from tests.serving.access.keys import AUDITOR, FRONTEND, OPERATOR, key_lines, write_access_file

KEYS = {"frontend": FRONTEND, "operator": OPERATOR, "auditor": AUDITOR}


class Clock:
    def __init__(self) -> None:
        self.now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


def make_guard(tmp_path: Path, clock: Clock, **said: str) -> Guard:
    return Guard(write_access_file(tmp_path / "access.toml", **said), clock_s=clock, steady_s=clock)


def bearer(key: str) -> dict[bytes, bytes]:
    return {b"authorization": b"Bearer " + key.encode()}


def ask(guard: Guard, key: str, method: str = "POST", path: str = "/v1/recommendations") -> int:
    refusal = guard.check(method, path, bearer(key))
    return 200 if refusal is None else refusal.status


def detail(refusal: Refusal | None) -> str:
    assert refusal is not None
    return json.loads(refusal.body)["detail"]


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/v1/recommendations", {"frontend"}),
        ("POST", "/v1/events", {"frontend", "operator"}),
        ("GET", "/v1/models", {"operator", "auditor"}),
        ("HEAD", "/v1/models", {"operator", "auditor"}),
        ("POST", "/v1/models/a1:promote", {"operator"}),
        ("POST", "/v1/models:rollback", {"operator"}),
        ("GET", "/v1/rooms", {"operator", "auditor"}),
        ("GET", "/v1/users/u1", {"operator", "auditor"}),
        ("DELETE", "/v1/users/u1", {"operator"}),
        ("DELETE", "/v1/users/a/../../recommendations", {"operator"}),
        ("GET", "/v1/erasures", {"operator", "auditor"}),
        ("GET", "/metrics", {"operator", "auditor"}),
        ("GET", "/docs", {"frontend", "operator", "auditor"}),
        ("GET", "/openapi.json", {"frontend", "operator", "auditor"}),
        ("GET", "/nothing", {"operator", "auditor"}),
        ("POST", "/nothing", set()),
        ("DELETE", "/metrics", set()),
        ("TRACE", "/v1/models", set()),
    ],
)
def test_a_role_may_use_its_routes_only(
    tmp_path: Path, clock: Clock, method: str, path: str, allowed: set[str]
) -> None:
    guard = make_guard(tmp_path, clock)
    assert {role for role, key in KEYS.items() if ask(guard, key, method, path) == 200} == allowed
    assert ask(guard, "roomrec_guessed", method, path) == 401


def test_no_prefix_reaches_beyond_its_name() -> None:
    rule = find_rule("POST", "/v1/recommendationsX")
    assert rule is not None
    assert rule.prefix == "/v1"
    assert find_rule("POST", "/v1x") is None
    assert all(rule.roles for rule in RULES)


def test_probes_need_no_key_and_all_else_does(tmp_path: Path, clock: Clock) -> None:
    guard = make_guard(tmp_path, clock)
    assert guard.check("GET", "/healthz", {}) is None
    assert guard.check("GET", "/readyz", {}) is None
    for path in ("/metrics", "/docs", "/", "/healthz/", "/v1/models"):
        refusal = guard.check("GET", path, {})
        assert refusal is not None
        assert refusal.status == 401
        assert dict(refusal.headers)[b"www-authenticate"] == b'Bearer realm="roomrec"'
        assert "X-API-Key" in detail(refusal)


@pytest.mark.parametrize(
    "headers",
    [
        {b"authorization": b""},
        {b"authorization": b"Bearer"},
        {b"authorization": b"Bearer "},
        {b"authorization": b"Basic " + FRONTEND.encode()},
        {b"authorization": FRONTEND.encode()},
        {b"authorization": b"Bearer \xff\xfe"},
        {b"authorization": b"Bearer " + FRONTEND.encode()[:-1]},
        {b"authorization": b"Bearer " + FRONTEND.upper().encode()},
        {b"authorization": b"Bearer a.b.c"},
        {b"authorization": b"Bearer nonsense", b"x-api-key": FRONTEND.encode()},
        {b"x-api-key": b""},
        {b"x-api-key": b"Bearer " + FRONTEND.encode()},
    ],
)
def test_what_is_no_key_is_refused(tmp_path: Path, clock: Clock, headers: dict[bytes, bytes]) -> None:
    refusal = make_guard(tmp_path, clock).check("POST", "/v1/recommendations", headers)
    assert refusal is not None
    assert refusal.status == 401


def test_a_key_goes_in_either_header(tmp_path: Path, clock: Clock) -> None:
    guard = make_guard(tmp_path, clock)
    for headers in (
        {b"x-api-key": FRONTEND.encode()},
        {b"authorization": b"bearer " + FRONTEND.encode()},
        {b"authorization": b"Bearer   " + FRONTEND.encode() + b" "},
    ):
        assert guard.check("POST", "/v1/recommendations", headers) is None


def test_a_refusal_says_which_role_is_missing_and_names_no_viewer(tmp_path: Path, clock: Clock) -> None:
    guard = make_guard(tmp_path, clock)
    refusal = guard.check("DELETE", "/v1/users/anna", bearer(FRONTEND))
    assert refusal is not None
    assert refusal.status == 403
    assert detail(refusal) == "DELETE here needs the role operator; the role of 'web' is frontend"


def test_a_key_ends(tmp_path: Path, clock: Clock) -> None:
    guard = make_guard(tmp_path, clock, frontend="expires = 1970-01-01T00:20:00Z")
    assert ask(guard, FRONTEND) == 200
    clock.now_s = 1_199.9
    assert ask(guard, FRONTEND) == 200
    clock.now_s = 1_200.0
    assert ask(guard, FRONTEND) == 401


def test_a_key_may_ask_so_often(tmp_path: Path, clock: Clock) -> None:
    guard = make_guard(tmp_path, clock, frontend="requests_per_s = 2\nburst = 3")
    assert [ask(guard, FRONTEND) for _ in range(5)] == [200, 200, 200, 429, 429]
    refusal = guard.check("POST", "/v1/recommendations", bearer(FRONTEND))
    assert refusal is not None
    assert dict(refusal.headers)[b"retry-after"] == b"1"
    assert "2 requests a second" in detail(refusal)
    assert ask(guard, OPERATOR, "GET", "/v1/models") == 200  # the others are not held up
    clock.now_s += 0.5
    assert [ask(guard, FRONTEND) for _ in range(2)] == [200, 429]
    clock.now_s += 3_600
    assert [ask(guard, FRONTEND) for _ in range(4)] == [200, 200, 200, 429]


def test_a_slow_limit_says_how_long_to_wait(tmp_path: Path, clock: Clock) -> None:
    guard = make_guard(tmp_path, clock, frontend="requests_per_s = 0.1\nburst = 1")
    assert ask(guard, FRONTEND) == 200
    refusal = guard.check("POST", "/v1/recommendations", bearer(FRONTEND))
    assert refusal is not None
    assert dict(refusal.headers)[b"retry-after"] == b"10"


def test_replicas_share_a_limit_and_a_file_has_a_default(tmp_path: Path, clock: Clock) -> None:
    path = write_access_file(tmp_path / "access.toml", head="requests_per_s = 8", frontend="requests_per_s = 4")
    guard = Guard(path, num_replicas=4, clock_s=clock, steady_s=clock)
    assert [ask(guard, FRONTEND) for _ in range(2)] == [200, 429]  # a burst is a second's worth: 4 / 4
    assert [ask(guard, AUDITOR, "GET", "/metrics") for _ in range(3)] == [200, 200, 429]


def test_a_changed_file_is_read_within_a_second_and_fills_no_bucket(
    tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    guard = make_guard(tmp_path, clock, frontend="requests_per_s = 0.001\nburst = 1")
    assert ask(guard, FRONTEND) == 200
    new_key = "roomrec_new-" + "d" * 40
    with (tmp_path / "access.toml").open("a") as file:
        file.write(key_lines("new", "auditor", new_key))
    assert ask(guard, new_key, "GET", "/metrics") == 401
    clock.now_s += 1.0
    assert ask(guard, new_key, "GET", "/metrics") == 200
    assert ask(guard, FRONTEND) == 429
    # a key that is taken out is not known any more
    write_access_file(tmp_path / "access.toml")
    clock.now_s += 1.0
    assert ask(guard, new_key, "GET", "/metrics") == 401
    assert ask(guard, FRONTEND) == 200


def test_a_key_that_is_taken_out_while_the_file_is_being_read_is_gone_a_second_later(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    leaked = "roomrec_leaked-" + "e" * 40
    path = tmp_path / "access.toml"
    path.write_text(key_lines("web", "frontend", FRONTEND) + key_lines("leaked", "auditor", leaked))
    guard = Guard(path, clock_s=clock, steady_s=clock)

    def read_slowly(path: Path) -> AccessFile:
        said = read_access_file(path)
        monkeypatch.undo()
        path.write_text(key_lines("web", "frontend", FRONTEND))
        return said

    monkeypatch.setattr("serving.access.guard.read_access_file", read_slowly)
    path.write_text(path.read_text() + "# touched\n")
    clock.now_s += 1.0
    assert ask(guard, leaked, "GET", "/metrics") == 200
    clock.now_s += 1.0
    assert ask(guard, leaked, "GET", "/metrics") == 401


def test_a_key_file_that_comes_after_the_file_that_names_it_is_seen(
    tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    guard = make_guard(tmp_path, clock)
    path = tmp_path / "access.toml"
    lines = '[tokens]\nissuer = "i"\naudience = "a"\nalgorithms = ["HS256"]\nsecret_file = "secret"\n'
    path.write_text(key_lines("new", "auditor", AUDITOR) + lines)
    clock.now_s += 1.0
    assert ask(guard, FRONTEND) == 200  # the former rules
    (tmp_path / "secret").write_text("s" * 32)
    clock.now_s += 1.0
    assert ask(guard, FRONTEND) == 401


def test_a_broken_or_missing_file_leaves_the_former_rules(
    tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    guard = make_guard(tmp_path, clock)
    path = tmp_path / "access.toml"
    with caplog.at_level(logging.ERROR):
        path.write_text("[[keys]\nname = ")
        clock.now_s += 1.0
        assert ask(guard, FRONTEND) == 200
        clock.now_s += 1.0
        assert ask(guard, FRONTEND) == 200
        assert [record.message.partition(":")[0] for record in caplog.records] == [
            "the former access rules stay at work"
        ]
        path.unlink()
        clock.now_s += 1.0
        assert ask(guard, FRONTEND) == 200
    assert len(caplog.records) == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("keys = 3", "keys"),
        ('[[keys]]\nname = "web"\nrole = "boss"\nsha256 = ""', "boss"),
        ('[[keys]]\nname = "web"\nrole = "auditor"\nsha256 = "roomrec_itself"', "sha256 must be 64 characters"),
        (key_lines("web", "auditor", "k") * 2, "a name of its own"),
        (key_lines("web", "auditor", "k") + key_lines("b", "auditor", "k"), "another name has the same key"),
        (key_lines("web", "auditor", "k", "requests_per_s = 0"), "requests_per_s must be above 0, received 0"),
        (key_lines("web", "auditor", "k", "burst = 0.5"), "burst must be at least 1"),
        (key_lines("web", "auditor", "k", "expires = 2027-01-01T00:00:00"), "needs a time zone"),
        (key_lines("web", "auditor", "k", "expirse = 2027-01-01T00:00:00Z"), "expirse"),
        ("requests_per_s = nan", "requests_per_s must be above 0"),
        ('[tokens]\nissuer = "i"\naudience = "a"\nalgorithms = ["RS256"]', "one of public_key, jwks and secret_file"),
        (
            '[tokens]\nissuer = "i"\naudience = "a"\nalgorithms = ["HS256"]\npublic_key = "k.pem"',
            "with this key use RS256",
        ),
        ('[tokens]\nissuer = "i"\naudience = "a"\nalgorithms = ["none"]\nsecret_file = "s"', "use HS256"),
        ('[tokens]\nissuer = "i"\naudience = "a"\nalgorithms = []\nsecret_file = "s"', "use HS256"),
        ('[tokens]\nissuer = "i"\naudience = ""\nalgorithms = ["HS256"]\nsecret_file = "s"', "issuer and audience"),
        ('[tokens]\nissuer = "i"\naudience = "a"\nalgorithms = ["HS256"]\nsecret_file = "s"', "cannot be used"),
    ],
)
def test_a_file_that_makes_no_sense_is_refused_at_the_start(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "access.toml"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=r"access file|key file") as error:
        Guard(path)
    assert said in str(error.value)


def test_json_says_the_same(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "access.json"
    digest = key_lines("web", "frontend", FRONTEND).split('"')[5]
    path.write_text(json.dumps({"keys": [{"name": "web", "role": "frontend", "sha256": digest}]}))
    assert ask(Guard(path, clock_s=clock, steady_s=clock), FRONTEND) == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.1.2.3", "shop.example", ""])
def test_nobody_is_let_in_from_other_machines_without_being_asked(tmp_path: Path, host: str) -> None:
    with pytest.raises(ConfigurationError, match="ROOMREC_ACCESS"):
        Guard.open(Settings(host=host))
    assert Guard.open(Settings(host=host, open_access=True)).check("POST", "/v1/models:rollback", {}) is None
    guard = Guard.open(Settings(host=host, access=str(write_access_file(tmp_path / "access.toml"))))
    assert ask(guard, FRONTEND) == 200
    assert guard.check("GET", "/metrics", {}) is not None


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.8.8.8"])
def test_on_this_machine_everybody_is_let_in(host: str) -> None:
    assert Guard.open(Settings(host=host)).check("DELETE", "/v1/users/u1", {}) is None


def test_no_file_where_one_is_named_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read"):
        Guard.open(Settings(access=os.fspath(tmp_path / "none.toml")))
