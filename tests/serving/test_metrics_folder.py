"""Numbers lie in memory, and what a killed run left there goes."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from serving import metrics_folder
from serving.metrics_folder import MetricsFolder

_RUNS = """
import sys, time
from pathlib import Path
from serving.metrics_folder import MetricsFolder

folder = MetricsFolder([Path(sys.argv[1])])
(folder.path / "counter_1.db").write_bytes(b"x")
print(folder.path, flush=True)
time.sleep(60)
"""


def start(parent: Path) -> tuple["subprocess.Popen[str]", Path]:
    process = subprocess.Popen([sys.executable, "-c", _RUNS, parent], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="this system has no folder in memory")
def test_it_is_in_memory_and_goes_with_the_run() -> None:
    with MetricsFolder() as folder:
        assert folder.path.parent == Path("/dev/shm")
        assert folder.path.stat().st_mode & 0o777 == 0o700
        (folder.path / "counter_1.db").write_bytes(b"x")
    assert not folder.path.exists()


def test_where_there_is_no_memory_it_is_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with MetricsFolder([tmp_path / "none", tmp_path]) as folder:
        assert folder.path.parent == tmp_path
    (tmp_path / "small").mkdir()
    monkeypatch.setattr(metrics_folder, "_has_room", lambda parent: parent.name != "small")
    with MetricsFolder([tmp_path / "small", tmp_path]) as folder:
        assert folder.path.parent == tmp_path


def test_what_a_killed_run_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    killed, left = start(tmp_path)
    running, used = start(tmp_path)
    others = tmp_path / "roomrec-metrics-without-lock"
    others.mkdir()
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert (left / "counter_1.db").exists()
    with MetricsFolder([tmp_path]) as folder:
        assert sorted(tmp_path.iterdir()) == sorted([used, others, folder.path])
        assert (used / "counter_1.db").exists()
    running.send_signal(signal.SIGKILL)
    running.communicate()


def test_what_a_link_points_to_stays(tmp_path: Path) -> None:
    elsewhere, parent = tmp_path / "elsewhere", tmp_path / "parent"
    for folder in (elsewhere, parent):
        folder.mkdir()
    (elsewhere / "in-use").write_text("")
    (parent / "roomrec-metrics-link").symlink_to(elsewhere)
    MetricsFolder([parent]).close()
    assert (elsewhere / "in-use").exists()


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        MetricsFolder([tmp_path / "none"])
