"""What was shown is in the files whatever happens to the process, and only until its viewer is erased."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roomrec.errors import StateError
from serving.deployments.recommender import Query, Slate
from serving.privacy.exports import Exports
from serving.state.slate_export import SLATE_SCHEMA, export_slates
from serving.state.slate_log import SUFFIX, LoggedSlate, Sizes, SlateLog, read_slates, slate_files

HOUR_MS = 3_600_000


def slate(number: int = 0, *, rooms: int = 2) -> Slate:
    items = [
        {"room_id": f"r{place}", "product_id": f"p{place}", "score": 0.5 - place, "propensity": 1.0, "title": "Silk"}
        for place in range(rooms)
    ]
    fields: dict[str, Any] = dict.fromkeys(Slate._fields)
    return Slate(**fields | {"request_id": f"q{number}", "model_version": "v1", "variant": "champion", "items": items})


def feed(user_id: str = "u1") -> Query:
    return Query(user_id, "room_feed", 2)


def everything(folder: Path) -> list[LoggedSlate]:
    return [each for path in slate_files(folder) for each in read_slates(path)]


def settle(log: SlateLog) -> None:
    """Wait until what is too old has gone."""
    assert log._dropping is not None
    log._dropping.join()


def bytes_in(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_a_slate_comes_back_as_it_was_shown(tmp_path: Path) -> None:
    log = SlateLog(tmp_path / "slates")
    log.append(feed(), slate(1), 7)
    log.append(Query("u2", "room_products", 2, "r9"), slate(2)._replace(degraded="fewer_than_k"), 8)
    log.append(feed("\U0001f600"), slate(3, rooms=0)._replace(model_version=None), 9)
    assert everything(tmp_path / "slates") == [
        LoggedSlate(7, "q1", "u1", "room_feed", None, "v1", "champion", None, [("r0", 0.5, 1.0), ("r1", -0.5, 1.0)]),
        LoggedSlate(
            8,
            "q2",
            "u2",
            "room_products",
            "r9",
            "v1",
            "champion",
            "fewer_than_k",
            [("p0", 0.5, 1.0), ("p1", -0.5, 1.0)],
        ),
        LoggedSlate(9, "q3", "\U0001f600", "room_feed", None, None, "champion", None, []),
    ]
    log.close()


def test_each_replica_has_files_of_its_own(tmp_path: Path) -> None:
    logs = [SlateLog(tmp_path) for _ in range(2)]
    for place in range(3):
        for number, log in enumerate(logs):
            log.append(feed(), slate(10 * number + place), 1_000 + number)
    assert sorted(each.request_id for each in everything(tmp_path)) == ["q0", "q1", "q10", "q11", "q12", "q2"]
    assert len(slate_files(tmp_path)) == 2


def test_a_file_ends_with_the_hour_or_when_it_is_long(tmp_path: Path) -> None:
    log = SlateLog(tmp_path, sizes=Sizes(file_bytes=300))
    for at_ms in (0, HOUR_MS - 1, HOUR_MS, HOUR_MS + 1, HOUR_MS + 2, HOUR_MS + 3, HOUR_MS + 4):
        log.append(feed(), slate(at_ms), at_ms)
    counts = [[each.at_ms for each in read_slates(path)] for path in slate_files(tmp_path)]
    assert counts == [[0, HOUR_MS - 1], [HOUR_MS + place for place in range(4)], [HOUR_MS + 4]]


def test_the_oldest_files_go_when_there_is_too_much(tmp_path: Path) -> None:
    log = SlateLog(tmp_path, sizes=Sizes(file_bytes=1, kept_bytes=250))
    for number in range(8):
        log.append(feed(), slate(number), number)
        settle(log)
    # the newest may be counted before it is written
    assert [each.request_id for each in everything(tmp_path)] in (["q6", "q7"], ["q5", "q6", "q7"])


def test_the_oldest_files_go_when_there_are_too_many(tmp_path: Path) -> None:
    log = SlateLog(tmp_path, sizes=Sizes(file_bytes=1, kept_files=2))
    for number in range(8):
        log.append(feed(), slate(number), number)
        settle(log)
    assert [each.request_id for each in everything(tmp_path)] == ["q6", "q7"]


def test_the_folder_is_not_gone_through_while_a_request_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    threads = []
    scandir = os.scandir

    def look(folder: Any) -> Any:
        threads.append(threading.current_thread())
        return scandir(folder)

    monkeypatch.setattr("serving.state.slate_log.os.scandir", look)
    log = SlateLog(tmp_path)
    log.append(feed(), slate(0), 1)
    log.append(feed(), slate(1), HOUR_MS)
    settle(log)
    assert threads
    assert threading.main_thread() not in threads


_DIES = """
import os, signal, sys
from pathlib import Path
from serving.state.slate_log import SlateLog
from tests.serving.state.test_slate_log import feed, slate

log = SlateLog(Path(sys.argv[1]))
number = 0
while True:
    log.append(feed(), slate(number), 1)
    os.write(1, b"%d\\n" % number)
    number += 1
"""


def test_kill_9_loses_no_slate_that_was_appended(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", _DIES, tmp_path], stdout=subprocess.PIPE, cwd=Path.cwd()) as process:
        assert process.stdout is not None
        for _ in range(200):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        told = 200 + len(process.stdout.read().split(b"\n")) - 1
    found = [each.request_id for each in everything(tmp_path)]
    assert len(found) - told in (0, 1)
    assert found == [f"q{number}" for number in range(len(found))]


@given(cut=st.integers(0, 400), after=st.binary(max_size=40))
def test_half_a_slate_at_the_end_is_told(tmp_path_factory: pytest.TempPathFactory, cut: int, after: bytes) -> None:
    folder = tmp_path_factory.mktemp("slates")
    log = SlateLog(folder)
    for number in range(3):
        log.append(feed(), slate(number), 1)
    (path,) = slate_files(folder)
    content = path.read_bytes()
    assert len(content) % 3 == 0
    one = len(content) // 3
    cut = min(cut, len(content))
    path.write_bytes(content[:cut])
    assert [each.request_id for each in read_slates(path)] == ["q0", "q1", "q2"][: cut // one]
    path.write_bytes(content + after)
    assert [each.request_id for each in read_slates(path)] == ["q0", "q1", "q2"]
    log.close()


def test_a_damaged_slate_is_left_out_and_the_next_is_read(tmp_path: Path) -> None:
    log = SlateLog(tmp_path)
    for number in range(3):
        log.append(feed(), slate(number), 1)
    (path,) = slate_files(tmp_path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert [each.request_id for each in read_slates(path)] == ["q0", "q2"]


def test_a_full_disk_fails_no_request_and_what_follows_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    lost = []
    log = SlateLog(tmp_path)
    log.on_lost = lambda: lost.append(1)
    log.append(feed(), slate(0), 1)
    write = os.write
    monkeypatch.setattr("serving.state.slate_log.os.write", lambda file, content: write(file, content[:11]))
    log.append(feed(), slate(1), 1)
    log.append(feed(), slate(2), 1)

    def full(file: int, content: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("serving.state.slate_log.os.write", full)
    log.append(feed(), slate(3), 1)
    monkeypatch.setattr("serving.state.slate_log.os.write", write)
    log.append(feed(), slate(4), 1)
    assert [each.request_id for each in everything(tmp_path)] == ["q0", "q4"]
    assert log.lost == len(lost) == 3
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "only 11 of" in caplog.text


def test_a_real_full_disk_is_counted(tmp_path: Path) -> None:
    now_s = [50.0]
    log = SlateLog(tmp_path, steady_s=lambda: now_s[0])
    log.append(feed(), slate(0), 1)
    full = os.open("/dev/full", os.O_WRONLY)
    assert log._descriptor is not None
    os.dup2(full, log._descriptor)
    os.close(full)
    log.append(feed(), slate(1), 1)
    log.append(feed(), slate(2), 1)  # what cannot be made whole is left alone, and no other begun for a second
    assert log.lost == 2
    now_s[0] += 1.0
    log.append(feed(), slate(3), 1)
    assert [each.request_id for each in everything(tmp_path)] == ["q0", "q3"]


def test_a_disk_that_stays_full_gets_one_file_and_none_when_it_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(file: int, content: bytes) -> int:
        raise OSError(28, "No space left on device")

    log = SlateLog(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr("serving.state.slate_log.os.write", full)
        for number in range(1_000):
            log.append(feed(), slate(number), number * 10_000)  # almost three hours
        assert len(slate_files(tmp_path)) == 1
    log.append(feed(), slate(1_000), 10_000_000)
    assert [each.request_id for each in everything(tmp_path)] == ["q1000"]
    with monkeypatch.context() as patch:
        patch.setattr("serving.state.slate_log.os.write", full)
        log.append(feed(), slate(1_001), 5 * HOUR_MS)
    assert len(slate_files(tmp_path)) == 2
    log.close()
    assert len(slate_files(tmp_path)) == 1
    assert log.lost == 1_001


def test_a_process_that_gets_no_more_threads_writes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    log = SlateLog(tmp_path)
    log.append(feed(), slate(0), 1)
    log.append(feed(), slate(1), HOUR_MS)
    log.close()
    assert [each.request_id for each in everything(tmp_path)] == ["q0", "q1"]


def test_a_folder_without_room_for_a_name_is_asked_once_a_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []

    def full(*_: Any) -> int:
        opened.append(1)
        raise OSError(28, "No space left on device")

    now_s = [50.0]
    log = SlateLog(tmp_path, steady_s=lambda: now_s[0])
    with monkeypatch.context() as patch:
        patch.setattr("serving.state.slate_log.os.open", full)
        for number in range(100):
            log.append(feed(), slate(number), number)
        assert len(opened) == 1
        now_s[0] += 1.0
        log.append(feed(), slate(100), 100)
        assert len(opened) == 2
    now_s[0] += 1.0
    log.append(feed(), slate(101), 101)
    assert log.lost == 101
    assert [each.request_id for each in everything(tmp_path)] == ["q101"]


def test_a_folder_that_cannot_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "slates").write_text("a file")
    with pytest.raises(StateError, match="slates cannot be made"):
        SlateLog(tmp_path / "slates")


def test_erasing_leaves_no_byte_of_a_viewer_and_everything_of_others(tmp_path: Path) -> None:
    logs = [SlateLog(tmp_path), SlateLog(tmp_path, sizes=Sizes(file_bytes=1_000))]
    for number in range(30):
        logs[number % 2].append(feed(f"secret-{number % 3}"), slate(number), 1)
    logs[0].append(feed("secret-1, another one"), slate(98), 1)
    assert logs[1].erase_user("secret-1") == 10
    assert logs[1].erase_user("secret-1") == 0
    logs[0].append(feed("later"), slate(99), 1)
    assert sorted(int(each.request_id[1:]) for each in everything(tmp_path)) == [
        *(number for number in range(30) if number % 3 != 1),
        98,
        99,
    ]
    assert bytes_in(tmp_path).count(b"secret-1") == 1
    assert b"q1\x00" not in bytes_in(tmp_path).replace(b"q10", b"")


@pytest.mark.parametrize("at_once", [1, 7, 8, 64, 1_000])
def test_a_name_that_lies_across_two_pieces_of_a_search_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr("serving.state.slate_log._SEARCHED_AT_ONCE", at_once)
    log = SlateLog(tmp_path)
    for number, user_id in enumerate(["u1", "secret", "u2", "u3"]):
        log.append(feed(user_id), slate(number), 1)
    assert log.erase_user("secret") == 1
    assert log.erase_user("u") == 0
    assert [each.user_id for each in everything(tmp_path)] == ["u1", "u2", "u3"]


def test_erasing_lets_others_run_meanwhile(tmp_path: Path) -> None:
    (tmp_path / f"1{SUFFIX}").write_bytes(b"u" * (64 << 20))
    erasing = threading.Thread(target=SlateLog(tmp_path).erase_user, args=("secret",))
    erasing.start()
    turns = 0
    while erasing.is_alive():
        time.sleep(0.001)
        turns += 1
    assert turns > 50  # a search of the whole file in one call leaves but a few


def test_an_erasure_that_was_stopped_halfway_can_be_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = SlateLog(tmp_path)
    for number in range(3):
        log.append(feed("secret" if number == 1 else "u1"), slate(number), 1)
    calls = []

    def stops(descriptor: int, content: bytes, offset: int) -> int:
        calls.append(offset)
        if len(calls) == 2:
            raise OSError(5, "Input/output error")
        return pwrite(descriptor, content, offset)

    pwrite = os.pwrite
    monkeypatch.setattr("serving.state.slate_log.os.pwrite", stops)
    with pytest.raises(StateError, match="cannot be erased"):
        log.erase_user("secret")
    assert b"secret" in bytes_in(tmp_path)
    assert [each.request_id for each in everything(tmp_path)] == ["q0", "q2"]
    assert log.erase_user("secret") == 0
    assert b"secret" not in bytes_in(tmp_path)
    assert [each.request_id for each in everything(tmp_path)] == ["q0", "q2"]


def test_half_a_slate_of_an_erased_viewer_goes_too(tmp_path: Path) -> None:
    log = SlateLog(tmp_path)
    log.append(feed("u1"), slate(0), 1)
    log.append(feed("secret"), slate(1), 1)
    (path,) = slate_files(tmp_path)
    os.truncate(path, path.stat().st_size - 5)
    assert log.erase_user("secret") == 0
    assert b"secret" not in bytes_in(tmp_path)
    assert [each.request_id for each in everything(tmp_path)] == ["q0"]


def test_an_export_lies_in_its_days_and_is_erased_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.state.slate_export._ROWS_AT_ONCE", 2)
    slates, out, exports = tmp_path / "slates", tmp_path / "out", Exports(tmp_path)
    log = SlateLog(slates)
    for number, at_ms in enumerate([0, 5, 24 * HOUR_MS - 1, 24 * HOUR_MS, 24 * HOUR_MS + 1]):
        log.append(feed("secret" if number == 3 else "u1"), slate(number), at_ms)
    assert export_slates(slates, out, exports=exports) == 5
    assert sorted(path.name for path in out.iterdir()) == ["day=1970-01-01", "day=1970-01-02"]
    assert len(list(out.rglob("*.parquet"))) == 3
    table = pq.read_table(out / "day=1970-01-02", schema=SLATE_SCHEMA)
    assert table.select(["at_ms", "user_id", "item_id", "score", "degraded"]).to_pylist()[0] == {
        "at_ms": 24 * HOUR_MS,
        "user_id": "secret",
        "item_id": ["r0", "r1"],
        "score": [0.5, -0.5],
        "degraded": None,
    }
    with pytest.raises(StateError, match="not empty"):
        export_slates(slates, out, exports=exports)
    exports.erase_user("secret")
    assert b"secret" not in bytes_in(out)
    assert sum(pq.read_metadata(path).num_rows for path in out.rglob("*.parquet")) == 4


def test_appending_takes_microseconds(tmp_path: Path) -> None:
    log = SlateLog(tmp_path)
    shown, asked = slate(rooms=20), feed()
    times = []
    for _ in range(2_000):
        started = time.perf_counter()
        log.append(asked, shown, 1)
        times.append(time.perf_counter() - started)
    assert sorted(times)[len(times) // 2] < 50e-6  # 4 us on a quiet core
