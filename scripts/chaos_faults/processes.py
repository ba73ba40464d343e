"""Processes of one session: found by what they are called, killed, stopped; and who holds a lock on a file."""

import os
import signal
import time
from pathlib import Path
from typing import Final

_WAL_WRITE_LOCK: Final = 120
"""Byte of SQLite's ``-shm`` file that whoever commits has locked."""


def in_session(session: int) -> dict[int, str]:
    """Return the processes of a session by id, with what they are called."""
    found = {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            state, _, _, its_session = (folder / "stat").read_text().rpartition(")")[2].split()[:4]
            title = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        except OSError:
            continue  # gone meanwhile
        if int(its_session) == session and state != "Z":
            found[int(folder.name)] = title
    return found


def named(session: int, beginning: str) -> list[int]:
    """Return the ids of those processes of a session whose name begins so, the oldest first."""
    return sorted(pid for pid, title in in_session(session).items() if title.startswith(beginning))


def is_there(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def kill(pid: int, number: int = signal.SIGKILL) -> None:
    """Send a signal, if the process is still there."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def end_session(session: int, *, within_s: float = 10.0) -> None:
    """Kill all processes of a session until there are none.

    Raises:
        RuntimeError: If some are there after so many seconds.
    """
    until = time.monotonic() + within_s
    while left := in_session(session):
        if time.monotonic() > until:
            raise RuntimeError(f"processes {sorted(left)} cannot be killed")
        for pid in left:
            kill(pid)
        time.sleep(0.05)


def who_commits(database: Path, among: list[int], *, within_s: float) -> int | None:
    """Wait for a process that holds the write lock of an SQLite file in WAL mode, and return it at that moment.

    Args:
        database: The file.
        among: Processes that count.
        within_s: How long to look.

    Returns:
        Its id; None if none of them was seen with the lock.
    """
    inode = str(database.with_name(database.name + "-shm").stat().st_ino)
    until = time.monotonic() + within_s
    while time.monotonic() < until:
        for line in Path("/proc/locks").read_text().splitlines():
            fields = line.split()
            if len(fields) < 8 or fields[3] != "WRITE" or fields[5].rpartition(":")[2] != inode:
                continue
            end = fields[7]
            holds = int(fields[6]) <= _WAL_WRITE_LOCK and (end == "EOF" or int(end) >= _WAL_WRITE_LOCK)
            if holds and int(fields[4]) in among:
                return int(fields[4])
    return None
