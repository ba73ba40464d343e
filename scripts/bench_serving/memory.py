"""What a replica takes of memory, and what of it grows with what is live; and of CPU."""

import os
from pathlib import Path
from typing import Final

_REPLICA: Final = "ServeReplica"


def replica_memory_mb(starter: int) -> list[float]:
    """Return the proportional set size of each replica, in MB: what processes share is counted in parts.

    Args:
        starter: The process that started the endpoint; all others descend from it.
    """
    return [_pss_mb(process) for process in _descendants(starter) if _REPLICA in _command(process)]


def replica_cpu_s(starter: int) -> float:
    """Return the CPU seconds that the replicas have used, in all."""
    ticks = 0
    for process in _descendants(starter):
        if _REPLICA in _command(process):
            fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def _descendants(starter: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError):
            continue  # it has ended meanwhile
        children.setdefault(parent, []).append(int(folder.name))
    found, waiting = [], [starter]
    while waiting:
        some = children.get(waiting.pop(), [])
        found += some
        waiting += some
    return found


def _command(process: int) -> str:
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def _pss_mb(process: int) -> float:
    for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return round(int(line.split()[1]) / 1024, 1)
    return 0.0
