import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from roomrec.errors import EventError
from roomrec.events.erasure import ErasedUsers, mark_erased
from roomrec.events.files import write_whole


def test_a_list_names_nobody_and_knows_who_is_meant(tmp_path: Path) -> None:
    file = tmp_path / "new" / "erased_users.ndjson"
    mark_erased(file, "anna", at_ms=50)
    mark_erased(file, "bob", at_ms=60)
    mark_erased(file, "anna", at_ms=70)
    assert b"anna" not in file.read_bytes()
    erased = ErasedUsers.read(file)
    assert len(erased.salt) == 16
    assert [erased.erased_at_ms(name) for name in ("anna", "bob", "cleo", "")] == [70, 60, None, None]
    mark_erased(tmp_path / "other", "anna", at_ms=1)
    assert ErasedUsers.read(tmp_path / "other").salt != erased.salt


def test_what_was_received_until_the_erasure_is_erased(tmp_path: Path) -> None:
    file = tmp_path / "erased"
    mark_erased(file, "anna", at_ms=50)
    erased = ErasedUsers.read(file)
    users = pa.chunked_array([["anna", "bob", None], ["anna", "anna"]])
    received_at_ms = np.array([50, 50, 0, 49, 51])
    assert erased.find(users, received_at_ms).tolist() == [True, False, False, True, False]
    encoded = pa.array(["bob", None, "anna"]).dictionary_encode()
    assert erased.find(encoded, np.array([1, 1, 1])).tolist() == [False, False, True]
    assert erased.find(pa.nulls(2, pa.string()), np.array([1, 1])).tolist() == [False, False]
    assert erased.find(pa.chunked_array([], pa.string()), np.array([], dtype=np.int64)).tolist() == []
    assert ErasedUsers(b"", {}).find(users, received_at_ms).tolist() == [False] * 5


def test_ids_may_be_any_text(tmp_path: Path) -> None:
    for user_id in ("ü" * 100, "a/b\n", "\ud800", " "):
        mark_erased(tmp_path / "erased", user_id, at_ms=5)
    assert ErasedUsers.read(tmp_path / "erased").erased_at_ms("\ud800") == 5


def test_many_may_write_at_a_time(tmp_path: Path) -> None:
    file = tmp_path / "erased"
    threads = [threading.Thread(target=mark_erased, args=(file, f"u{n}"), kwargs={"at_ms": n}) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    erased = ErasedUsers.read(file)
    assert [erased.erased_at_ms(f"u{n}") for n in range(20)] == list(range(20))


@pytest.mark.parametrize("torn", [b'{"user": "ab', b"{"])
def test_half_a_line_of_a_killed_process_does_not_count(tmp_path: Path, torn: bytes) -> None:
    file = tmp_path / "erased"
    mark_erased(file, "anna", at_ms=50)
    whole = file.read_bytes()
    file.write_bytes(whole + torn)
    assert ErasedUsers.read(file).erased_at_ms("anna") == 50
    mark_erased(file, "bob", at_ms=60)
    assert file.read_bytes().startswith(whole + b'{"user"')
    assert ErasedUsers.read(file).erased_at_ms("bob") == 60
    # killed while the very first line was written
    file.write_bytes(torn)
    mark_erased(file, "cleo", at_ms=70)
    assert ErasedUsers.read(file).erased_at_ms("cleo") == 70


@pytest.mark.parametrize("content", ["", "{}\n", "nonsense\n", '{"salt": "xy"}\n', '{"salt": "ab"}\n{"user": "x"}\n'])
def test_a_damaged_list_is_an_error(tmp_path: Path, content: str) -> None:
    (tmp_path / "erased").write_text(content)
    with pytest.raises(EventError, match="list of erased users"):
        ErasedUsers.read(tmp_path / "erased")


def test_a_missing_list_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(EventError, match="cannot be read"):
        ErasedUsers.read(tmp_path / "none")


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    file = tmp_path / "new" / "file.json"
    write_whole(file, b"one")
    write_whole(file, b"two")
    assert file.read_bytes() == b"two"
    assert [path.name for path in file.parent.iterdir()] == ["file.json"]
    with pytest.raises(OSError, match="irectory"):
        write_whole(tmp_path / "new", b"a folder is in the way")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new"]
