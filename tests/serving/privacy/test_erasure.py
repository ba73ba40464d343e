"""After an erasure nothing of the viewer is in any byte on the disk, and everything else is still there."""

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet as pq
import pytest

from roomrec.errors import StateError
from roomrec.events.erasure import ErasedUsers
from roomrec.events.parquet import read_events
from serving.api.routes import create_api
from serving.deployments.endpoint import Endpoint
from serving.privacy.exports import Exports
from serving.privacy.receipts import Receipts
from serving.settings import Settings
from serving.state.export import export_events
from serving.state.slate_export import export_slates
from serving.state.sqlite_event_log import SqliteEventLog
from tests.serving.conftest import TestClient
from tests.serving.evening import enter, event, opening
from tests.serving.shop import NOW_MS

GONE, STAYS = "viewer-to-be-forgotten", "viewer-who-stays"


@pytest.fixture
def endpoint(settings: Settings) -> Iterator[TestClient]:
    with TestClient(create_api(Endpoint.open(settings, now_ms=lambda: NOW_MS))) as client:
        assert client.post("/v1/events", json=opening()).json()["accepted"] == 6
        yield client


def live_a_little(client: TestClient, user_id: str, *, times: int = 30) -> None:
    """Posts of one event each, so that every file is written again and again."""
    for _ in range(times):
        posted = client.post(
            "/v1/events", json=[enter(user_id, "scarf-room", "mia", context={"note": f"by {user_id}"})]
        )
        assert posted.json()["accepted"] == 1
    client.post("/v1/events", json=[event("follow", user_id=user_id, streamer_id="mia")])
    client.post("/v1/events", json=[event("not_interested", user_id=user_id, product_id="wool")])
    assert client.post("/v1/recommendations", json={"user_id": user_id}).status_code == 200


def export(settings: Settings, folder: Path) -> Exports:
    log = SqliteEventLog(settings.event_log_path)
    exports = Exports(Path(settings.data))
    export_events(log, folder, exports=exports)
    log.close()
    return exports


def holds(folder: Path, word: str) -> list[str]:
    """Names of files that hold a word in any byte, as text or inside Parquet."""
    found = []
    for file in folder.rglob("*"):
        if not file.is_file():
            continue
        is_in_table = file.suffix == ".parquet" and word in json.dumps(pq.read_table(file).to_pylist(), default=str)
        if is_in_table or word.encode() in file.read_bytes() or word in file.name:
            found.append(str(file.relative_to(folder)))
    return sorted(found)


def test_no_byte_on_the_disk_remembers_an_erased_viewer(
    endpoint: TestClient, settings: Settings, tmp_path: Path
) -> None:
    for user_id in (GONE, STAYS):
        live_a_little(endpoint, user_id)
    exports = export(settings, tmp_path / "serving-export")
    assert export_slates(settings.slates_path, tmp_path / "shown-export", exports=exports) == 2
    before = holds(tmp_path, GONE)
    assert {"serving/events.sqlite-wal", "serving/state/data.mdb"} <= set(before)
    for folder in ("serving/slates/", "serving-export/", "shown-export/"):
        assert any(name.startswith(folder) for name in before), folder
    receipt = endpoint.delete(f"/v1/users/{GONE}").json()
    assert receipt["user_id"] == GONE
    assert receipt["removed"]["event_log"] == {"events": 32}
    assert receipt["removed"]["exports"] == {"rows": 33, "files_written_again": 2}
    assert receipt["removed"]["slates"] == {"slates": 1}
    assert receipt["removed"]["state"]["history_events"] == 31
    assert receipt["removed"]["state"]["bytes_overwritten"] > 0
    assert holds(tmp_path, GONE) == []
    assert {"serving/events.sqlite", "serving/state/data.mdb"} <= set(holds(tmp_path, STAYS))  # the log is in one file
    assert sum(table["user_id"].to_pylist().count(STAYS) for table in read_events(tmp_path / "serving-export")) == 32
    assert endpoint.get(f"/v1/users/{GONE}").status_code == 404
    assert len(endpoint.get(f"/v1/users/{STAYS}").json()["history"]) == 31
    answer = endpoint.post("/v1/recommendations", json={"user_id": GONE}).json()
    assert answer["degraded"] == "unknown_user"


def test_nothing_comes_back_with_a_restart_or_from_the_log(settings: Settings, tmp_path: Path) -> None:
    with TestClient(create_api(Endpoint.open(settings, now_ms=lambda: NOW_MS))) as client:
        client.post("/v1/events", json=opening())
        live_a_little(client, GONE)
        client.delete(f"/v1/users/{GONE}")
        live_a_little(client, STAYS)
    with TestClient(create_api(Endpoint.open(settings, now_ms=lambda: NOW_MS))) as client:
        assert client.get(f"/v1/users/{GONE}").status_code == 404
        assert client.get(f"/v1/users/{STAYS}").status_code == 200
        assert holds(tmp_path, GONE) == []


_REPLICA = """
import sys
import msgspec
from serving.deployments.endpoint import Endpoint
from serving.deployments.recommender import Query
from serving.settings import Settings

endpoint = Endpoint.open(Settings.read(msgspec.json.decode(sys.argv[1])), now_ms=lambda: int(sys.argv[2]))
for line in sys.stdin:
    slate = endpoint.recommend(Query(line.strip(), "room_feed", 5))
    slate = endpoint.recommend(Query(line.strip(), "room_feed", 5))
    print(slate.degraded, flush=True)
endpoint.close_files()
"""


def test_another_replica_forgets_at_once(endpoint: TestClient, settings: Settings) -> None:
    live_a_little(endpoint, GONE, times=3)
    replica = subprocess.Popen(
        [sys.executable, "-c", _REPLICA, msgspec.json.encode(settings).decode(), str(NOW_MS)],
        cwd=Path(__file__).parents[3],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert replica.stdin is not None
        assert replica.stdout is not None

        def ask() -> str:
            replica.stdin.write(GONE + "\n")
            replica.stdin.flush()
            return replica.stdout.readline().strip()

        assert ask() == "fewer_than_k"  # twice, so that what may be remembered is
        endpoint.delete(f"/v1/users/{GONE}")
        assert ask() == "unknown_user"
    finally:
        replica.communicate(timeout=30)
    assert replica.returncode == 0


def test_receipts_are_kept_and_name_nobody(endpoint: TestClient, settings: Settings) -> None:
    live_a_little(endpoint, GONE, times=2)
    first = endpoint.delete(f"/v1/users/{GONE}").json()
    second = endpoint.delete(f"/v1/users/{GONE}").json()  # asking again is safe
    assert second["removed"]["event_log"] == {"events": 0}
    kept = endpoint.get("/v1/erasures").json()["erasures"]
    assert kept == [{name: value for name, value in each.items() if name != "user_id"} for each in (second, first)]
    assert endpoint.get("/v1/erasures?limit=1").json()["erasures"] == kept[:1]
    assert endpoint.get("/v1/erasures?limit=0").status_code == 422
    erased = ErasedUsers.read(Path(first["left_out_of_training"]))
    assert erased.erased_at_ms(GONE) == NOW_MS == first["erased_at_ms"]
    assert set(erased.by_hash) == {first["user_hash"]}
    left = " ".join(first["not_removed"])
    for word in ("datasets preprocessed before", "bundles trained before", "write buffers", "file system"):
        assert word in left


def test_erasures_at_once_go_through_the_state_together(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    scrubs = []

    async def erase_many() -> list[dict[str, Any]]:
        endpoint = Endpoint.open(settings, now_ms=lambda: NOW_MS)
        scrub = endpoint._erasure._scrub
        assert scrub is not None

        def slowly() -> int:
            scrubs.append(endpoint._store.read_user("u19")[1])
            time.sleep(0.2)
            return scrub()

        monkeypatch.setattr(endpoint._erasure, "_scrub", slowly)
        await endpoint.post([event("follow", user_id=f"u{number}", streamer_id="mia") for number in range(20)])
        receipts = await asyncio.gather(*(endpoint.erase_user(f"u{number}") for number in range(20)))
        await endpoint.close()
        return receipts

    receipts = asyncio.run(erase_many())
    assert [receipt["removed"]["event_log"]["events"] for receipt in receipts] == [1] * 20
    assert 2 <= len(scrubs) <= 4
    assert scrubs[-1] is None


def test_exports_that_cannot_be_gone_through_are_named(
    endpoint: TestClient, settings: Settings, tmp_path: Path
) -> None:
    live_a_little(endpoint, GONE, times=2)
    for name in ("moved", "damaged", "good"):
        export(settings, tmp_path / name)
    (tmp_path / "moved").rename(tmp_path / "elsewhere")
    (damaged,) = (tmp_path / "damaged").rglob("*.parquet")
    damaged.write_bytes(b"no Parquet")
    receipt = endpoint.delete(f"/v1/users/{GONE}").json()
    assert receipt["removed"]["exports"] == {"rows": 4, "files_written_again": 1}
    left = [each for each in receipt["not_removed"] if each.startswith("export ")]
    assert [each.partition(":")[0] for each in left] == [f"export {tmp_path / 'moved'}", f"export {damaged}"]


def test_an_export_that_runs_meanwhile_holds_nothing_of_the_viewer(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.state.export._ROWS_AT_ONCE", 5)
    log = SqliteEventLog(settings.event_log_path)
    columns = {"event_type": "follow", "occurred_at_ms": 5, "received_at_ms": 5, "streamer_id": "mia"}
    log.append([columns | {"event_id": f"e{n}", "user_id": (GONE, STAYS)[n % 2]} for n in range(400)])
    exports = Exports(Path(settings.data))
    exporting = threading.Thread(target=export, args=(settings, tmp_path / "out"))
    exporting.start()
    while not list((tmp_path / "out").rglob("*.parquet")):
        pass
    assert log.erase_user(GONE) == 200
    assert exports.erase_user(GONE).files > 0
    exporting.join()
    log.close()
    assert holds(tmp_path, GONE) == []
    assert sum(len(table) for table in read_events(tmp_path / "out")) == 200


def test_a_file_of_one_viewer_alone_goes(settings: Settings, tmp_path: Path) -> None:
    log = SqliteEventLog(settings.event_log_path)
    log.append([event("follow", user_id=GONE, streamer_id="mia", received_at_ms=5)])
    log.close()
    exports = export(settings, tmp_path / "out")
    erased = exports.erase_user(GONE)
    assert (erased.rows, erased.files, erased.untouched) == (1, 1, [])
    assert list((tmp_path / "out").rglob("*.parquet")) == []


def test_exports_are_registered_once_and_a_damaged_list_is_said(tmp_path: Path) -> None:
    exports = Exports(tmp_path / "data")
    assert exports.folders() == []
    exports.register(tmp_path / "out")
    exports.register(Path(os.path.relpath(tmp_path / "out")))
    assert exports.folders() == [tmp_path / "out"]
    (tmp_path / "data" / "exports.json").write_text("{}")
    with pytest.raises(StateError, match="list of exports"):
        exports.erase_user(GONE)


def test_receipts_survive_a_process_that_died_while_writing(tmp_path: Path) -> None:
    receipts = Receipts(tmp_path)
    assert receipts.newest(5) == []
    receipts.add({"n": 1})
    with (tmp_path / "erasures.ndjson").open("ab") as file:
        file.write(b'{"n": 2')
    receipts.add({"n": 3})
    assert receipts.newest(5) == [{"n": 3}, {"n": 1}]
    assert receipts.newest(1) == [{"n": 3}]


def test_with_pseudonyms_no_id_reaches_the_disk_and_no_pseudonym_an_answer(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("k" * 32)
    settings = msgspec.structs.replace(settings, pseudonym_key_file=str(tmp_path / "key"))
    answers: list[Any] = []
    with TestClient(create_api(Endpoint.open(settings, now_ms=lambda: NOW_MS))) as client:
        client.post("/v1/events", json=opening())
        posts = [enter(STAYS, "scarf-room", "mia"), event("follow", user_id=STAYS, streamer_id="mia")]
        answers.append(client.post("/v1/events", json=posts).text)
        slate = client.post("/v1/recommendations", json={"user_id": STAYS})
        assert slate.json()["degraded"] == "fewer_than_k"  # and so not unknown_user
        known = client.get(f"/v1/users/{STAYS}")
        assert known.json()["user_id"] == STAYS
        assert len(known.json()["history"]) == 2
        export(settings, tmp_path / "out")
        assert holds(tmp_path, STAYS) == []
        assert sorted({name.partition("/")[0] for name in holds(tmp_path, "p_")}) == ["out", "serving"]
        erased = client.delete(f"/v1/users/{STAYS}")
        assert erased.json()["removed"]["event_log"] == {"events": 2}
        assert erased.json()["removed"]["exports"]["rows"] == 2
        answers += [slate.text, known.text, erased.text, client.get("/v1/erasures").text]
        assert client.get(f"/v1/users/{STAYS}").status_code == 404
    assert not any("p_" in answer.replace("user_hash", "").replace("http_", "") for answer in answers)
