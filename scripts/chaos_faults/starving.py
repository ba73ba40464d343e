"""Faults that take something away for a while: the processor, the disk, Redis, the right time."""

import contextlib
import itertools
import os
import resource
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from scripts.chaos_faults.processes import kill, who_commits
from scripts.chaos_faults.scene import KILLED, Fault, Scene

PAUSE_S: Final = 5.0
"""How long a process is paused."""

_TRIES: Final = 100
_REDIS_AWAY_S: Final = 2.0
_JUMPS_S: Final = (-3_600, 0, 3_600, 0)
_CLOCK_IS_READ_AGAIN_S: Final = 1.5


def pause_replica(scene: Scene) -> None:
    """Stop a replica for 5 s: any one, then the one that is committing to the log."""
    endpoint, probes = scene.endpoint, scene.probes
    longest = dict.fromkeys(("slate", "slate_while_the_writer_is_paused", "post_while_the_writer_is_paused"), 0.0)
    for is_writer in (False, True):
        pid = _stop_whoever_commits(scene) if is_writer else endpoint.replica_pids()[0]
        if pid is None:
            scene.broken.append("nobody was caught committing, although events are posted")
            return
        began = time.monotonic()
        kill(pid, signal.SIGSTOP)
        try:
            time.sleep(PAUSE_S)
        finally:
            kill(pid, signal.SIGCONT)
        scene.recovers(time.monotonic())
        slates = probes.longest("recommendations", began)
        scene.expect(slates < PAUSE_S / 2, f"a new connection waited {slates:.1f} s for a slate, with a replica free")
        if is_writer:
            longest["slate_while_the_writer_is_paused"] = slates
            longest["post_while_the_writer_is_paused"] = probes.longest("events", began)
        else:
            longest["slate"] = slates
    scene.told["longest_of_new_connections_s"] = {name: round(value, 3) for name, value in longest.items()}


def _stop_whoever_commits(scene: Scene) -> int | None:
    """Stop a replica while it holds the write lock of the log; one that was faster goes on."""
    database, pids = scene.endpoint.settings.event_log_path, scene.endpoint.replica_pids()
    for _ in range(_TRIES):
        if (pid := who_commits(database, pids, within_s=5.0)) is None:
            return None
        kill(pid, signal.SIGSTOP)
        time.sleep(0.01)  # it may take a moment to stop
        if who_commits(database, [pid], within_s=0.02) == pid:
            return pid
        kill(pid, signal.SIGCONT)
    return None


def fill_disk(scene: Scene) -> None:
    """Leave no byte on the disk of log and state; meanwhile kill a replica, whose successor finds no room."""
    ballast = scene.endpoint.data.parent / "ballast"
    with _starved_of_disk(scene), ballast.open("wb", buffering=0) as file:
        try:
            until = time.monotonic() + scene.seconds
            is_killed = False
            while time.monotonic() < until:
                with contextlib.suppress(OSError):
                    while True:
                        file.write(bytes(64))
                if not is_killed and time.monotonic() > until - scene.seconds / 2:
                    kill(scene.endpoint.replica_pids()[0])
                    is_killed = True
                time.sleep(0.02)
        finally:
            ballast.unlink()


def refuse_writes(scene: Scene) -> None:
    """Let the kernel refuse every write of replicas to files."""
    pids = scene.endpoint.replica_pids()
    limits = {pid: resource.prlimit(pid, resource.RLIMIT_FSIZE) for pid in pids}
    with _starved_of_disk(scene):
        try:
            for pid, (_, hard) in limits.items():
                resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, hard))
            time.sleep(scene.seconds)
        finally:
            for pid, limit in limits.items():
                resource.prlimit(pid, resource.RLIMIT_FSIZE, limit)


@contextlib.contextmanager
def _starved_of_disk(scene: Scene) -> Iterator[None]:
    probes = scene.probes
    began = time.monotonic()
    yield
    ended = time.monotonic()
    settled = began + min(1.0, scene.seconds / 4)
    seen = [probe for probe in probes.seen if settled <= probe.began and probe.ended < ended]
    posts = {probe.how for probe in seen if probe.kind == "events"}
    slates = {probe.how for probe in seen if probe.kind == "recommendations"}
    scene.expect(posts == {"503"}, f"posts were answered {sorted(posts)} without room on the disk, expected 503")
    scene.expect("ok" in slates, f"slates were answered {sorted(slates)} without room on the disk")
    scene.recovers(ended, within_s=90.0)


def kill_redis(scene: Scene) -> None:
    """Kill Redis, which keeps log and state, and start it again on its files."""
    server, probes = scene.endpoint.beside["redis"], scene.probes
    until = time.monotonic() + scene.seconds
    kills = 0
    while not scene.broken and (not kills or time.monotonic() < until):
        began = time.monotonic()
        server.kill()
        kills += 1
        time.sleep(_REDIS_AWAY_S)
        gone = [probe for probe in probes.seen if probe.began >= began]
        scene.expect(bool(gone), "nothing was answered while Redis was away")
        scene.expect(all(probe.how == "503" for probe in gone[2:]), f"without Redis: {gone[:6]}")
        server.start()
        scene.recovers(time.monotonic())
        time.sleep(0.5)
    scene.told["kills"] = kills


def turn_clock(scene: Scene) -> None:
    """Turn the clock of all replicas an hour back, right, an hour forward, and right."""
    clock: Path = scene.endpoint.beside["clock"]
    for jump_s in _JUMPS_S:
        beside = clock.with_suffix(".new")
        beside.write_text(f"{jump_s:+d}")
        os.replace(beside, clock)
        time.sleep(max(_CLOCK_IS_READ_AGAIN_S, scene.seconds / len(_JUMPS_S)))
        scene.recovers(time.monotonic())
    rejected = [
        f"{how} ({len(list(them))})" for how, them in itertools.groupby(sorted(scene.probes.errors().elements()))
    ]
    scene.expect(not any(each.startswith("rejected") for each in rejected), f"good events were {rejected}")


FAULTS: Final = (
    Fault("replica-paused", "SIGSTOP of a replica for 5 s, then of the one that is committing", pause_replica),
    Fault("writes-refused", "the kernel refuses every write of replicas to files", refuse_writes),
    Fault(
        "disk-full",
        "no room on the disk of log and state; a replica is killed meanwhile",
        fill_disk,
        stage="small-disk",
        may_see=KILLED,
    ),
    Fault(
        "redis-killed", "kill -9 of Redis, which is back 2 s later", kill_redis, stage="redis", needs=("redis-server",)
    ),
    Fault(
        "clock-jumps",
        "the clock an hour back, right, an hour forward, right",
        turn_clock,
        stage="turned-clock",
        needs=("faketime",),
    ),
)
"""What is tried here."""
