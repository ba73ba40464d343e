"""Nothing of a deleted record is left in the file, and all other records are."""

import hashlib
import random
import subprocess
import sys
from pathlib import Path

import lmdb
import pytest

from roomrec.errors import StateError
from serving.state import lmdb_scrubbing
from serving.state.lmdb_scrubbing import scrub
from serving.state.lmdb_state_store import LmdbStateStore
from serving.state.sqlite_event_log import SqliteEventLog


def open_environment(path: Path) -> lmdb.Environment:
    path.mkdir(exist_ok=True)
    return lmdb.open(str(path), map_size=1 << 28, max_dbs=4, sync=False)


def key_of(number: int) -> bytes:
    """A hash, as the state's keys of viewers are: deleted keys may stay as signposts in the branches of the tree."""
    return hashlib.blake2b(b"%05d" % number, digest_size=16).digest()


def fill(environment: lmdb.Environment, *, seed: int, num_users: int) -> dict[bytes, bytes]:
    """Many transactions that write records of a few bytes to a few pages, again and again, as histories grow."""
    draw = random.Random(seed)
    users = environment.open_db(b"users")
    rooms = environment.open_db(b"rooms")
    kept: dict[bytes, bytes] = {}
    for _ in range(60):
        with environment.begin(write=True) as transaction:
            for _ in range(40):
                number = draw.randrange(num_users)
                key = key_of(number)
                value = (b"secret-of-%05d " % number) * draw.choice([1, 3, 20, 70, 130, 400, 2_000])
                transaction.put(key, value, db=users)
                kept[key] = value
                if draw.random() < 0.2:
                    transaction.delete(key, db=users)
                    del kept[key]
            transaction.put(b"room", b"r" * draw.randrange(20_000), db=rooms)
    return kept


def everything(environment: lmdb.Environment, name: bytes) -> dict[bytes, bytes]:
    database = environment.open_db(name)
    with environment.begin() as transaction:
        return {bytes(key): bytes(value) for key, value in transaction.cursor(db=database)}


@pytest.mark.parametrize("seed", range(6))
def test_what_was_deleted_is_nowhere_and_the_rest_is_as_it_was(tmp_path: Path, seed: int) -> None:
    environment = open_environment(tmp_path / "state")
    kept = fill(environment, seed=seed, num_users=300)
    users = environment.open_db(b"users")
    gone = sorted(kept)[::7]
    with environment.begin(write=True) as transaction:
        for key in gone:
            transaction.delete(key, db=users)
            del kept[key]
    file = tmp_path / "state" / "data.mdb"
    before = file.read_bytes()
    numbers = {key_of(number): b"secret-of-%05d" % number for number in range(300)}
    assert all(numbers[key] in before for key in gone)
    assert scrub(tmp_path / "state", environment) > 0
    after = file.read_bytes()
    for key, secret in numbers.items():
        assert (secret in after) == (key in kept)
    assert everything(environment, b"users") == kept
    assert scrub(tmp_path / "state", environment) == 0
    # the file goes on as a file that nobody has touched
    fill(environment, seed=seed + 100, num_users=300)
    copy = tmp_path / "copy"
    copy.mkdir()
    environment.copy(str(copy), compact=True)
    again = open_environment(copy)
    assert everything(again, b"users") == everything(environment, b"users")
    assert everything(again, b"rooms") == everything(environment, b"rooms")
    again.close()
    environment.close()


def test_an_empty_environment_has_nothing_to_scrub(tmp_path: Path) -> None:
    environment = open_environment(tmp_path / "state")
    assert scrub(tmp_path / "state", environment) == 0
    environment.close()


def test_what_somebody_reads_is_left_until_they_have_read_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lmdb_scrubbing, "_WAIT_S", 0.1)
    environment = open_environment(tmp_path / "state")
    kept = fill(environment, seed=1, num_users=50)
    users = environment.open_db(b"users")
    reading = environment.begin()
    with environment.begin(write=True) as transaction:
        transaction.drop(users, delete=False)
    with pytest.raises(StateError, match="somebody has been reading"):
        scrub(tmp_path / "state", environment)
    assert {bytes(key): bytes(value) for key, value in reading.cursor(db=users)} == kept
    reading.abort()
    assert scrub(tmp_path / "state", environment) > 0
    assert b"secret-of-" not in (tmp_path / "state" / "data.mdb").read_bytes()
    environment.close()


def test_a_file_of_another_layout_is_left_alone(tmp_path: Path) -> None:
    environment = open_environment(tmp_path / "state")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "data.mdb").write_bytes(b"\x00" * 8_192)
    with pytest.raises(StateError, match="another layout"):
        scrub(tmp_path / "other", environment)
    environment.close()


def test_a_process_that_is_alone_overwrites_once_more_at_its_start(tmp_path: Path) -> None:
    log = SqliteEventLog(tmp_path / "events.sqlite")
    enter = {"event_type": "enter", "occurred_at_ms": 5, "received_at_ms": 6, "room_id": "r1", "streamer_id": "mia"}
    for number in range(200):
        log.append([enter | {"event_id": f"e{number}", "user_id": f"viewer-{number % 9}"}])
    store = LmdbStateStore(tmp_path / "state", log, history_limit=50)
    store.catch_up()
    log.erase_user("viewer-3")
    assert store.erase_user("viewer-3").events > 0
    assert store.scrub() > 0
    file = tmp_path / "state" / "data.mdb"
    assert b"viewer-3" not in file.read_bytes()
    assert b"viewer-4" in file.read_bytes()
    other = _run_python(
        "from serving.state.lmdb_state_store import LmdbStateStore\n"
        "from serving.state.sqlite_event_log import SqliteEventLog\n"
        f"LmdbStateStore(Path({str(tmp_path / 'state')!r}), SqliteEventLog(Path({str(tmp_path / 'events.sqlite')!r})),"
        " history_limit=50).close()"
    )
    assert other.returncode == 0, other.stderr
    assert (tmp_path / "state" / "scrub_due").exists()  # it was not alone
    store.close()
    content = file.read_bytes()
    unused = content.index(bytes(64), 8_192)  # as if a buffer had brought something back
    file.write_bytes(content[:unused] + b"viewer-3" + content[unused + 8 :])
    LmdbStateStore(tmp_path / "state", log, history_limit=50).close()
    assert b"viewer-3" not in file.read_bytes()
    assert not (tmp_path / "state" / "scrub_due").exists()
    log.close()


def _run_python(code: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", f"from pathlib import Path\n{code}"],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


_WRITER = """
import random
import sys
import time
import lmdb

environment = lmdb.open(sys.argv[1], map_size=1 << 28, max_dbs=4, sync=False)
users = environment.open_db(b"users")
draw = random.Random(int(sys.argv[2]))
until = time.monotonic() + float(sys.argv[3])
while time.monotonic() < until:
    with environment.begin(write=True) as transaction:
        for _ in range(20):
            name = b"%s-%03d" % (sys.argv[2].encode(), draw.randrange(200))
            if draw.random() < 0.3:
                transaction.delete(name, db=users)
            else:
                transaction.put(name, name * draw.choice([1, 5, 50, 300, 900]), db=users)
    with environment.begin() as transaction:
        for key, value in transaction.cursor(db=users):
            assert len(value) % len(key) == 0 and value == key * (len(value) // len(key)), (key, value)
environment.close()
"""


def test_who_reads_and_writes_meanwhile_notices_nothing(tmp_path: Path) -> None:
    """Every record says its own name again and again, so that a page changed under somebody would show."""
    folder = tmp_path / "state"
    environment = open_environment(folder)
    environment.open_db(b"users")
    writers = [
        subprocess.Popen([sys.executable, "-c", _WRITER, str(folder), str(number), "4"], stderr=subprocess.PIPE)
        for number in range(2)
    ]
    num_scrubs = overwritten = 0
    while any(writer.poll() is None for writer in writers):
        overwritten += scrub(folder, environment)
        num_scrubs += 1
    for writer in writers:
        _, said = writer.communicate()
        assert writer.returncode == 0, said
    assert num_scrubs > 5
    assert overwritten > 0
    kept = everything(environment, b"users")
    assert kept
    assert all(value == key * (len(value) // len(key)) for key, value in kept.items())
    environment.close()
