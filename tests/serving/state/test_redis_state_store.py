"""The Redis state keeps the contract, and what only it promises."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from roomrec.errors import StateError
from serving.state.event_log import EventLog
from serving.state.records import unpack_user
from serving.state.redis_event_log import RedisEventLog
from serving.state.redis_state_store import RedisStateStore
from serving.state.sqlite_event_log import SqliteEventLog
from serving.state.state_store import CatalogueRecords, StateStore
from tests.contracts.state_store_contract import StateStoreContract, an_evening, enter, event, start
from tests.serving.state.redis_server import RedisServer, running

LIVE_AND_FOLLOWED = (b"position", b"made-with", b"changes", b"moments-by-seq")


@pytest.fixture(scope="module")
def shared_server() -> Iterator[RedisServer]:
    with running() as server:
        yield server


@pytest.fixture
def server(shared_server: RedisServer) -> RedisServer:
    with shared_server.client() as client:
        client.flushall()
    return shared_server


def contents(server: RedisServer) -> dict[bytes, Any]:
    """Every record of the live generation, without what is made from the others."""
    with server.client() as client:
        prefix = b"{roomrec}:state:" + (client.get("{roomrec}:state-live") or b"") + b":"
        found: dict[bytes, Any] = {}
        for key in client.scan_iter():
            if key.startswith(prefix) and key[len(prefix) :] not in LIVE_AND_FOLLOWED:
                is_hash = client.type(key) == b"hash"
                found[key[len(prefix) :]] = client.hgetall(key) if is_hash else client.get(key)
        return found


class TestRedisStateStore(StateStoreContract):
    @pytest.fixture(autouse=True)
    def _server(self, server: RedisServer) -> None:
        self.server = server

    def open_log(self, folder: Path) -> EventLog:
        return RedisEventLog(self.server.connect())

    def open_store(self, folder: Path, log: EventLog) -> RedisStateStore:
        assert isinstance(log, RedisEventLog)
        return RedisStateStore(self.server.connect(), log, history_limit=self.history_limit, log_key=log.key)

    def contents(self, store: StateStore) -> object:
        return contents(self.server)


class TestRedisStateStoreOverSqlite(StateStoreContract):
    @pytest.fixture(autouse=True)
    def _server(self, server: RedisServer) -> None:
        self.server = server

    def open_log(self, folder: Path) -> EventLog:
        return SqliteEventLog(folder / "events.sqlite")

    def open_store(self, folder: Path, log: EventLog) -> RedisStateStore:
        return RedisStateStore(self.server.connect(), log, history_limit=self.history_limit)

    def contents(self, store: StateStore) -> object:
        return contents(self.server)


@pytest.fixture
def log(server: RedisServer) -> Iterator[RedisEventLog]:
    log = RedisEventLog(server.connect())
    yield log
    log.close()


@pytest.fixture
def stores(server: RedisServer, log: RedisEventLog) -> Iterator[list[RedisStateStore]]:
    """Stores of two machines."""
    stores = [open_store(server, log) for _ in range(2)]
    yield stores
    for store in stores:
        store.close()


def open_store(
    server: RedisServer, log: EventLog, *, history_limit: int = 1_000, user_ttl_s: int | None = None
) -> RedisStateStore:
    return RedisStateStore(
        server.connect(), log, history_limit=history_limit, user_ttl_s=user_ttl_s, log_key=b"{roomrec}:log"
    )


def remembered(store: RedisStateStore, user_id: str = "u1") -> list[str]:
    packed = store.read_user(user_id)[1]
    return [] if packed is None else [past.event_id for past in unpack_user(packed).events]


def before_commits(store: RedisStateStore, monkeypatch: pytest.MonkeyPatch, happens: Any) -> None:
    """Pause a store once between what it read and what it writes, while something happens."""
    commit, things = store._commit, [happens]

    def paused(*arguments: Any, **named: Any) -> bool:
        if things:
            things.pop()()
        return commit(*arguments, **named)

    monkeypatch.setattr(store, "_commit", paused)


def test_who_was_paused_while_another_applied_the_same_changes_nothing(
    log: RedisEventLog, stores: list[RedisStateStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    paused, other = stores
    appended = log.append([start(0), *(enter(0, user_id=f"u{n}") for n in range(5))])
    before_commits(paused, monkeypatch, other.catch_up)
    assert paused.catch_up(appended) == other.position()
    assert other.read_moments(None).rooms["r1"].enters == 5.0


def test_who_was_paused_while_the_state_was_rebuilt_starts_again(
    log: RedisEventLog, stores: list[RedisStateStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    paused, other = stores
    log.append([start(0), enter(0)])
    before_commits(paused, monkeypatch, other.rebuild)
    assert paused.catch_up() == other.position()
    assert other.read_moments(None).rooms["r1"].enters == 1.0
    log.append([enter(0, user_id="u2")])
    assert paused.catch_up().applied_seq == 3
    assert other.read_moments(None).rooms["r1"].enters == 2.0


def test_an_erasure_between_reading_and_writing_is_not_undone(
    log: RedisEventLog, stores: list[RedisStateStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    paused, other = stores
    log.append([enter(1)])
    paused.catch_up()
    log.append([enter(2), enter(2, user_id="u2")])

    def erase() -> None:
        log.erase_user("u1")
        other.erase_user("u1")

    before_commits(paused, monkeypatch, erase)
    paused.catch_up()
    assert paused.read_user("u1")[1] is None
    assert len(remembered(other, "u2")) == 1


def test_a_viewer_erased_during_a_rebuild_does_not_come_back(
    log: RedisEventLog, stores: list[RedisStateStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    building, other = stores
    log.append([enter(1), enter(1, user_id="u2")])
    building.catch_up()

    def erase() -> None:
        log.erase_user("u1")
        other.erase_user("u1")

    before_commits(building, monkeypatch, erase)
    building.rebuild()
    assert other.read_user("u1")[1] is None
    log.append([enter(3, user_id="u2")])
    take_over = building._generations.take_over

    def erase_then_take_over(*arguments: Any) -> bool:
        log.erase_user("u2")
        other.erase_user("u2")
        return take_over(*arguments)

    monkeypatch.setattr(building._generations, "take_over", erase_then_take_over)
    building.rebuild()
    assert other.read_user("u2")[1] is None


def test_many_processes_apply_each_event_once(server: RedisServer, log: RedisEventLog) -> None:
    log.append([start(0)])

    def write(writer: int) -> None:
        own_log = RedisEventLog(server.connect())
        store = open_store(server, own_log)
        for n in range(40):
            store.catch_up(
                own_log.append([enter(n, user_id=f"u{writer % 2}", room_id="r1") | {"event_id": f"{writer}-{n}"}])
            )
            assert f"{writer}-{n}" in remembered(store, f"u{writer % 2}")
        store.close()
        own_log.close()

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    store = open_store(server, log)
    assert sum(store.read_moments(None).rooms["r1"].counts.by_second[0]) == 160
    assert [len(remembered(store, user_id)) for user_id in ("u0", "u1")] == [80, 80]
    followed = contents(server)
    store.rebuild()
    assert contents(server) == followed
    store.close()


def test_while_rebuilding_readers_see_the_state_of_before_and_posts_go_on(
    log: RedisEventLog, stores: list[RedisStateStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.state.redis_state_store._CHUNK", 50)
    building, other = stores
    log.append([start(0), *(enter(n) for n in range(600))])
    building.catch_up()
    seen: list[int] = []
    thread = threading.Thread(target=building.rebuild)
    thread.start()
    posted = 600
    while thread.is_alive():
        seen.append(len(remembered(other)))
        other.catch_up(log.append([enter(posted)]))
        posted += 1
        assert len(remembered(other)) == posted
        assert other.read_catalogue().rooms.keys() == {"r1"}
    thread.join()
    assert seen == sorted(seen)
    assert len(remembered(building)) == len(remembered(other)) == posted


def test_only_the_live_generation_is_left_after_a_rebuild(
    server: RedisServer, log: RedisEventLog, stores: list[RedisStateStore]
) -> None:
    log.append(an_evening(1))
    with server.client() as client:
        client.set("{roomrec}:state:17:user:u1", b"left by one who died")
        stores[0].catch_up()
        keys = client.dbsize() - 1
        stores[0].rebuild()
        assert client.dbsize() == keys
        assert not client.exists("{roomrec}:state-building")


def test_a_builder_that_died_is_replaced(
    server: RedisServer, log: RedisEventLog, stores: list[RedisStateStore]
) -> None:
    log.append([enter(1)])
    with server.client() as client:
        client.set("{roomrec}:state-building", "1", px=150)
    started = time.monotonic()
    stores[0].rebuild()
    assert 0.1 < time.monotonic() - started < 2
    assert len(remembered(stores[1])) == 1


def test_a_builder_that_was_replaced_writes_nothing_more(
    server: RedisServer, log: RedisEventLog, stores: list[RedisStateStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    log.append([start(0), enter(0)])
    paused, other = stores

    def replace() -> None:
        with server.client() as client:
            client.delete("{roomrec}:state-building")  # as if it had expired
        other.rebuild()

    before_commits(paused, monkeypatch, replace)
    paused.rebuild()
    assert paused.position() == other.position()
    assert other.read_moments(None).rooms["r1"].enters == 1.0


def test_a_larger_history_limit_reads_the_log_again_and_counts_for_all(server: RedisServer, log: RedisEventLog) -> None:
    log.append([enter(at_ms) for at_ms in range(1, 5)])
    short = open_store(server, log, history_limit=2)
    short.catch_up()
    assert len(remembered(short)) == 2
    long = open_store(server, log, history_limit=3)
    assert len(remembered(long)) == len(remembered(short)) == 3
    log.append([enter(9)])
    short.catch_up()
    assert len(remembered(short)) == 3
    short.close()
    long.close()


def test_a_state_made_by_other_rules_is_made_again(
    server: RedisServer, log: RedisEventLog, stores: list[RedisStateStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    log.append([enter(1)])
    before = stores[0].catch_up()
    monkeypatch.setattr("serving.state.redis_state_store.RULES", 1_000)
    store = open_store(server, log)
    assert store.position().generation > before.generation
    assert len(remembered(store)) == 1
    again = open_store(server, log)
    assert again.position() == store.position()
    store.close()
    again.close()


def test_a_log_that_was_replaced_is_read_from_its_beginning(server: RedisServer, tmp_path: Path) -> None:
    long, short = SqliteEventLog(tmp_path / "long.sqlite"), SqliteEventLog(tmp_path / "short.sqlite")
    long.append([enter(1), enter(2)])
    short.append([enter(9)])
    for log, expected in ((long, 2), (short, 1)):
        store = open_store(server, log)
        store.catch_up()
        assert len(remembered(store)) == expected
        store.close()
        log.close()


def test_a_redis_that_lost_everything_is_filled_from_the_log(server: RedisServer, tmp_path: Path) -> None:
    log = SqliteEventLog(tmp_path / "events.sqlite")
    log.append([start(0), enter(1)])
    store = open_store(server, log)
    before = store.catch_up()
    with server.client() as client:
        client.flushall()
    assert store.read_user("u1")[1] is None
    after = store.catch_up()
    assert after.generation != before.generation
    assert after.applied_seq == before.applied_seq
    assert store.read_changes(before) is None
    assert len(remembered(store)) == 1
    store.close()
    log.close()


def test_viewers_expire_and_nothing_else_does(server: RedisServer, log: RedisEventLog) -> None:
    store = open_store(server, log, user_ttl_s=100)
    log.append(an_evening(2))
    store.catch_up()
    with server.client() as client:
        expiring = {key.split(b":")[3] for key in client.scan_iter() if client.ttl(key) != -1}
        assert expiring == {b"user"}
        name = next(iter(client.scan_iter("*:user:u1")))
        assert 90 < client.ttl(name) <= 100
        client.delete(name)  # as if the time were over
    assert store.read_user("u1")[1] is None
    log.append([enter(9_000_000)])
    store.catch_up()
    assert len(remembered(store)) == 1
    store.close()


def test_no_byte_of_an_erased_viewer_stays_in_memory_or_on_the_disk(server: RedisServer) -> None:
    log = RedisEventLog(server.connect(), forgets_on_disk=False)
    store = open_store(server, log)
    log.append([start(0), *(enter(n, user_id="secret-viewer") for n in range(20)), enter(5, user_id="somebody")])
    store.catch_up()
    assert b"secret-viewer" in server.bytes_after_rewriting()
    assert log.erase_user("secret-viewer") == 20
    assert store.erase_user("secret-viewer").events == 20
    found = server.bytes_after_rewriting()
    assert b"secret-viewer" not in found
    assert b"somebody" in found
    store.close()
    log.close()


def test_the_log_may_be_trimmed_as_far_as_the_state_has_come(log: RedisEventLog, stores: list[RedisStateStore]) -> None:
    log.append([enter(1), enter(2)])
    assert log.slowest_group() == (None, 0)
    stores[0].catch_up()
    log.append([enter(3)])
    assert log.slowest_group() == ("state", 2)
    log.trim(log.read(after=0, limit=2))
    assert stores[1].catch_up().applied_seq == 3
    assert len(remembered(stores[1])) == 3
    with pytest.raises(StateError, match="events 1 to 2 have left the event log"):
        stores[1].rebuild()
    assert len(remembered(stores[0])) == 3
    with pytest.raises(StateError, match="events 1 to 2 have left the event log"):
        stores[0].rebuild()  # at once: the one that failed does not hold others up


def test_a_replica_far_behind_is_told_to_read_everything(
    log: RedisEventLog, stores: list[RedisStateStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.state.redis_tables.KEPT_CHANGES", 3)
    log.append([start(0)])
    before = stores[0].catch_up()
    for n in range(3):
        log.append([event("stock_changed", n, product_id="silk", stock=n)])
        stores[0].catch_up()
    assert stores[0].read_changes(before) is None
    changes = stores[1].read_changes(before._replace(catalogue_seq=2))
    assert changes is not None
    assert changes.products["silk"].stock == 2


def test_the_limit_must_be_real(server: RedisServer, log: RedisEventLog) -> None:
    with pytest.raises(ValueError, match="history_limit must be at least 1, received 0"):
        open_store(server, log, history_limit=0)


def test_many_changes_are_read_in_pieces_and_none_is_missed(server: RedisServer) -> None:
    store = RedisStateStore(server.connect(), RedisEventLog(server.connect()), history_limit=5)
    log = RedisEventLog(server.connect())
    before = store.catch_up(log.append([start(0, room_id="before")]))
    for number in range(95):
        store.catch_up(log.append([start(number, room_id=f"alone{number}")]))
    # one place in the log, ten changes of which the first piece holds five
    store.catch_up(log.append([start(number, room_id=f"together{number}") for number in range(1_000)]))
    store.catch_up(log.append([event("room_end", 2_000, room_id="alone7"), start(2_001, room_id="last")]))
    found = store.read_changes(before)
    assert found is not None
    assert found.position == store.position()
    assert len(found.rooms) == 95 + 1_000 + 1
    assert [room_id for room_id, room in found.rooms.items() if room is None] == ["alone7"]
    assert store.read_changes(found.position) == CatalogueRecords(found.position, {}, {})
    for each in (store, log):
        each.close()
