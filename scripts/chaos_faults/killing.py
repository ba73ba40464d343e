"""Faults that kill: a replica, whoever commits, all replicas, what looks after them."""

import subprocess
import time
from typing import Final

from scripts.chaos_faults.processes import end_session, in_session, is_there, kill, who_commits
from scripts.chaos_faults.scene import KILLED, Fault, Scene

_CONTROLLER_BACK_S: Final = 60.0
_ENDS_WITHIN_S: Final = 30.0


def kill_replicas(scene: Scene) -> None:
    """Kill one replica after another, the next when the one before has been replaced."""
    until = time.monotonic() + scene.seconds
    kills = 0
    while not scene.broken and (not kills or time.monotonic() < until):
        pids = scene.endpoint.replica_pids()
        kill(pids[0])  # the oldest, so that each has its turn
        kills += 1
        scene.recovers(time.monotonic())
    scene.told["kills"] = kills


def kill_whoever_commits(scene: Scene) -> None:
    """Kill the replica that holds the write lock of the log, at that moment."""
    until = time.monotonic() + scene.seconds
    kills = 0
    database = scene.endpoint.settings.event_log_path
    while not scene.broken and (not kills or time.monotonic() < until):
        pid = who_commits(database, scene.endpoint.replica_pids(), within_s=10.0)
        if pid is None:
            scene.broken.append("nobody was seen committing for 10 s, although events are posted")
            return
        kill(pid)
        kills += 1
        scene.recovers(time.monotonic())
    scene.told["kills_while_committing"] = kills


def kill_all_replicas(scene: Scene) -> None:
    """Kill every replica at once."""
    for pid in scene.endpoint.replica_pids():
        kill(pid)
    scene.recovers(time.monotonic())


def kill_everything(scene: Scene) -> None:
    """Kill every process of the endpoint, Ray's too, and start it again on its data, as a supervisor does."""
    end_session(scene.endpoint.session)
    killed = time.monotonic()
    scene.endpoint.start()
    scene.told["ready_again_s"] = round(time.monotonic() - killed, 2)
    scene.recovers(killed)


def kill_raylet(scene: Scene) -> None:
    """Kill the process of Ray that starts all others: the endpoint ends by itself, and a supervisor starts it again."""
    endpoint = scene.endpoint
    raylet = next(pid for pid, title in in_session(endpoint.session).items() if title.split()[0].endswith("/raylet"))
    kill(raylet)
    killed = time.monotonic()
    assert endpoint.process is not None
    try:
        code = endpoint.process.wait(_ENDS_WITHIN_S)
    except subprocess.TimeoutExpired:
        scene.broken.append(f"the endpoint has not ended {_ENDS_WITHIN_S:g} s after Ray's raylet")
        return
    scene.told["ended_by_itself_s"] = round(time.monotonic() - killed, 2)
    scene.expect(code == 1, f"the endpoint ended with status {code}, expected 1")
    time.sleep(0.2)
    left = in_session(endpoint.session)
    scene.expect(not left, f"it left {left}")
    end_session(endpoint.session)
    endpoint.start()
    scene.recovers(killed)


def kill_controller(scene: Scene) -> None:
    """Kill the process that looks after replicas; then a replica, to see that its successor does so."""
    endpoint, probes = scene.endpoint, scene.probes
    before = endpoint.controller_pid()
    scene.expect(before is not None, "there is no controller")
    if before is None:
        return
    kill(before)
    began = time.monotonic()
    while (after := endpoint.controller_pid()) in (None, before) or not is_there(after or 0):
        if time.monotonic() - began > _CONTROLLER_BACK_S:
            scene.broken.append(f"there is no controller {_CONTROLLER_BACK_S:g} s after it was killed")
            return
        time.sleep(0.05)
    scene.told["controller_back_s"] = round(time.monotonic() - began, 2)
    time.sleep(max(0.0, scene.seconds - (time.monotonic() - began)))
    unwell = [probe for probe in probes.seen if probe.began >= began and probe.how not in ("ok", "503")]
    scene.expect(not unwell, f"requests failed while there was no controller: {unwell[:3]}")
    killed = time.monotonic()
    kill(endpoint.replica_pids()[0])
    scene.recovers(killed)
    scene.told["replica_replaced_s"] = scene.recovered_s


FAULTS: Final = (
    Fault("replica-killed", "kill -9 of one replica after another", kill_replicas, may_see=KILLED, lasts=2.0),
    Fault(
        "writer-killed",
        "kill -9 of the replica that is committing to the log",
        kill_whoever_commits,
        may_see=KILLED,
        rate=20.0,
        events=100.0,
        lasts=4.0,
    ),
    # where nobody listens, requests wait at the client for a connection
    Fault("all-replicas-killed", "kill -9 of every replica at once", kill_all_replicas, may_see={*KILLED, "timeout"}),
    Fault(
        "endpoint-killed",
        "kill -9 of all its processes, Ray's too; then it is started again",
        kill_everything,
        may_see={*KILLED, "timeout"},
    ),
    Fault(
        "raylet-killed",
        "kill -9 of Ray's raylet: the endpoint ends by itself and is started again",
        kill_raylet,
        may_see={*KILLED, "timeout"},
    ),
    Fault("controller-killed", "kill -9 of Ray Serve's controller, then of a replica", kill_controller, may_see=KILLED),
)
"""What is tried here."""
