"""Faults that clients bring along: bodies beyond measure, connections that trickle, bytes that are no request."""

import asyncio
import contextlib
import itertools
import json
import os
import random
import socket
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Final

from scripts.chaos_faults.hostile import hostile_inputs
from scripts.chaos_faults.scene import Fault, Scene

TOO_MANY_EVENTS: Final = 100_000
"""In one body; ``max_events`` and ``max_body_bytes`` allow a tenth."""

TRICKLING: Final = 300
"""Clients that send a byte now and then."""

_TRICKLE_EVERY_S: Final = 0.25
_GIVEN_UP_AFTER_S: Final = 15.0
_ANSWERED_WITHIN_S: Final = 12.0
_REFUSED_WITHIN_S: Final = 5.0
_OTHERS_WAIT_S: Final = 2.0
_BODIES_AS_LONG_AS_ALLOWED: Final = 3


def post_too_much(scene: Scene) -> None:
    """Post 100,000 events in one body: as JSON that is too long, as lines that are too many, and in pieces."""
    long = b"[" + b",".join(_event(str(number), "x" * 100) for number in range(TOO_MANY_EVENTS)) + b"]"
    many = b"\n".join(b'{"event_id":"%d"}' % number for number in range(TOO_MANY_EVENTS))
    many_in_array = b"[" + b",".join([b'{"event_id":"1"}'] * TOO_MANY_EVENTS) + b"]"
    head = b"POST /v1/events HTTP/1.1\r\nhost: x\r\n"
    pieces = b"".join(
        b"%x\r\n%b\r\n" % (len(piece), piece)
        for piece in (long[at : at + 65_536] for at in range(0, len(long), 65_536))
    )
    payloads = [head + b"content-length: %d\r\n\r\n" % len(body) + body for body in (long, many, many_in_array)]
    payloads.append(head + b"transfer-encoding: chunked\r\n\r\n" + pieces + b"0\r\n\r\n")
    began = time.monotonic()
    longest = 0.0
    statuses: Counter[str] = Counter()
    for payload in itertools.cycle(payloads):
        if statuses.total() >= len(payloads) and time.monotonic() - began > scene.seconds:
            break
        sent = time.monotonic()
        statuses[_exchange(scene.endpoint.port, payload)] += 1
        longest = max(longest, time.monotonic() - sent)
    scene.told |= {"statuses": dict(statuses), "longest_s": round(longest, 3)}
    scene.expect(set(statuses) == {"413"}, f"bodies with {TOO_MANY_EVENTS} events were answered {dict(statuses)}")
    scene.expect(longest < _REFUSED_WITHIN_S, f"refusing took {longest:.1f} s")
    _post_as_many_as_allowed(scene)
    _others(scene, began)


def _post_as_many_as_allowed(scene: Scene) -> None:
    """Post whole bodies of good events, which are all stored while others go on."""
    most, run = scene.endpoint.settings.max_events, f"many-{time.time_ns():x}"
    for body in range(_BODIES_AS_LONG_AS_ALLOWED):
        ids = [f"{run}-{body}-{number}" for number in range(most)]
        content = b"[" + b",".join(_event(event_id, run) for event_id in ids) + b"]"
        answer = scene.endpoint.ask("POST", "/v1/events", content=content)
        scene.expect(answer.status_code in (200, 503), f"{most} good events were answered {answer.status_code}")
        if answer.status_code == 200:
            scene.expect(
                answer.json()["accepted"] == most, f"of {most} good events {answer.json()['accepted']} were taken"
            )
            scene.probes.acknowledged.update(ids)


def _event(event_id: str, user_id: str) -> bytes:
    event = {
        "event_id": event_id,
        "event_type": "enter",
        "occurred_at_ms": 1_790_000_000_000,
        "user_id": user_id,
        "room_id": "r",
        "streamer_id": "s",
    }
    return json.dumps(event).encode()


def trickle(scene: Scene) -> None:
    """Open hundreds of connections that send a byte of a request now and then, and never end it."""
    began = time.monotonic()
    ended = asyncio.run(_trickle_all(scene.endpoint.port, max(scene.seconds, _GIVEN_UP_AFTER_S)))
    scene.told |= {"connections": TRICKLING, "ended_with": dict(ended)}
    scene.expect(ended["still open"] == 0, f"{ended['still open']} connections that trickle were not given up")
    _others(scene, began)


async def _trickle_all(port: int, seconds: float) -> Counter[str]:
    return Counter(await asyncio.gather(*(_trickle(port, seconds, number) for number in range(TRICKLING))))


async def _trickle(port: int, seconds: float, number: int) -> str:
    """Send a request byte by byte.

    Returns:
        How it ended: a status, ``closed`` or ``still open``.
    """
    head = b"POST /v1/events HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\r\n["
    begins_with = head if number % 2 else b"GET /heal"  # half of them in the body, half in the head
    until = time.monotonic() + seconds
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    reading = asyncio.ensure_future(reader.read(64))
    try:
        writer.write(begins_with)
        while time.monotonic() < until and not reading.done():
            await asyncio.wait([reading], timeout=_TRICKLE_EVERY_S)
            writer.write(b"a")
        if not reading.done():
            return "still open"
        said = reading.result()
        return said[9:12].decode() if said else "closed"
    except OSError:
        return "closed"
    finally:
        reading.cancel()
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def send_hostile_bytes(scene: Scene) -> None:
    """Send what is no request, or two in one: every connection is answered 4xx, or closed, and soon."""
    began = time.monotonic()
    pids = scene.endpoint.replica_pids()
    ended: Counter[str] = Counter()
    rng = random.Random(scene.random.random())
    for name, payload, allowed in hostile_inputs(rng, run_s=scene.seconds):
        how = _exchange(scene.endpoint.port, payload)
        ended[how if how in ("closed", "silent") else how.split()[0]] += 1
        scene.expect(set(how.split()) <= allowed, f"{name} was answered {how}, expected {' or '.join(sorted(allowed))}")
    scene.told |= {"inputs": ended.total(), "ended_with": dict(ended)}
    scene.expect(scene.endpoint.replica_pids() == pids, "a replica has died of it")
    _others(scene, began)


def _exchange(port: int, payload: bytes) -> str:
    """Send bytes and no more; return the statuses of what comes back, ``closed`` or ``silent``."""
    said = b""
    with socket.create_connection(("127.0.0.1", port), timeout=_ANSWERED_WITHIN_S) as client:
        try:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # an answer may have come nevertheless
                client.sendall(payload)
                client.shutdown(socket.SHUT_WR)
            while more := client.recv(65_536):
                said += more
        except TimeoutError:
            if not said:
                return "silent"
        except OSError:
            pass
    statuses = [part[:3].decode() for part in said.split(b"HTTP/1.1 ")[1:]]
    return " ".join(statuses) or "closed"


def fuzz_by_schema(scene: Scene) -> None:
    """Ask all operations of the OpenAPI schema with what it allows and what it does not."""
    began = time.monotonic()
    words = [
        *(Path(sys.executable).with_name("schemathesis"), "run", f"{scene.endpoint.url}/openapi.json"),
        *("--max-examples", str(max(5, int(scene.seconds * 3))), "--seed", str(scene.random.randrange(1 << 30))),
        *("--mode", "all", "--phases", "examples,coverage,fuzzing", "--request-timeout", "10"),
        *(
            "--checks",
            "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance",
        ),
        *("--no-color", "--generation-database", "none"),
    ]
    done = subprocess.run(
        words, cwd=scene.endpoint.folder, env=os.environ, capture_output=True, text=True, check=False, timeout=300
    )
    lines = done.stdout.splitlines()
    scene.told["said"] = next((line.strip(" =") for line in reversed(lines) if line.strip(" =")), "")
    scene.expect(done.returncode == 0, f"schemathesis found something: {done.stdout[-3000:]}{done.stderr[-500:]}")
    _others(scene, began)
    _go_back(scene)


def _go_back(scene: Scene) -> None:
    """Undo what was done to models: all versions may have been tried."""
    good = scene.endpoint.versions.good
    for version in scene.endpoint.versions:
        scene.endpoint.ask("DELETE", f"/v1/models/{version}:canary")
    answer = scene.endpoint.ask("POST", f"/v1/models/{good}:promote", params={"force": True})
    scene.expect(answer.status_code == 200, f"promoting {good} was answered {answer.text[:200]}")


def _others(scene: Scene, began: float) -> None:
    """Note how well others were served meanwhile."""
    waited = {kind: scene.probes.longest(kind, began) for kind in ("recommendations", "events")}
    scene.told["longest_of_others_s"] = {kind: round(seconds, 3) for kind, seconds in waited.items()}
    for kind, seconds in waited.items():
        scene.expect(seconds < _OTHERS_WAIT_S, f"others waited {seconds:.1f} s for an answer to {kind}")
    scene.recovers(time.monotonic())


FAULTS: Final = (
    Fault("huge-bodies", f"{TOO_MANY_EVENTS:,} events in a body, again and again; then 10,000", post_too_much),
    Fault("slow-clients", f"{TRICKLING} clients that send a byte every {_TRICKLE_EVERY_S:g} s", trickle),
    Fault("hostile-bytes", "garbage, halves of requests, two requests in one, endless headers", send_hostile_bytes),
    Fault("schema-fuzz", "schemathesis on all operations", fuzz_by_schema, rate=20.0),
)
"""What is tried here."""
