"""The command line of ``scripts/load-serving``: read, refused where it makes no sense, made into stretches of load."""

import argparse
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from scripts.load_serving.connections import Target
from scripts.load_serving.traffic import Stretch

MOST_PRODUCTS: Final = 200
"""Most one may ask an endpoint for, so that a probe sees all products of a room."""

PROOF: Final = {"duration": 600.0, "room_changes_per_second": 50.0, "probe_share": 1.0}
"""What ``--proof`` sets, unless it is given."""


def read_options(arguments: Sequence[str] | None = None, *, description: str | None = None) -> argparse.Namespace:
    """Read the command line.

    Args:
        arguments: Words; by default those of this process.
        description: What ``--help`` says first.

    Raises:
        SystemExit: With a sentence, if an option makes no sense.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("url", help="where the endpoint listens: http://host:port")
    load = parser.add_mutually_exclusive_group()
    load.add_argument("--rate", type=float, help="requests for recommendations a second (default 100)")
    load.add_argument("--rates", type=rates, help="several, one after another: 100,500,1000")
    load.add_argument("--concurrency", type=int, default=0, help="closed loop: so many under way, the next after each")
    add("--duration", type=float, help="seconds of each rate (default 30)")
    add("--warmup", type=float, default=2.0, help="seconds before, not measured (default %(default)g)")
    add("--burst", type=float, default=0.0, help="a flash sale in the middle: so many times the rate")
    add("--burst-seconds", type=float, default=5.0, help="how long it lasts (default %(default)g)")
    add("--proof", action="store_true", help="10 minutes, 50 changes of rooms a second, each of them probed")
    add("--connections", type=int, default=64, help="kept alive; more requests wait (default %(default)s)")
    add("--timeout", type=float, default=10.0, help="seconds until a request is given up (default %(default)g)")
    add(
        "--drain",
        type=float,
        default=30.0,
        help="seconds at the end for what is not acknowledged (default %(default)g)",
    )
    add("--seed", type=int, default=0, help="decides instants and who does what (default %(default)s)")
    add("--run-id", default=f"load-{secrets.token_hex(4)}", help="begins ids of events and rooms (default: a new one)")
    add("--k", type=int, default=10, help="items wanted (default %(default)s)")
    add("--viewers", type=int, default=10_000, help="default %(default)s")
    add(
        "--zipf",
        type=float,
        default=1.0,
        help="exponent: the viewer of rank r comes r^-z as often (default %(default)g)",
    )
    add("--rooms", type=int, default=100, help="live at a time (default %(default)s)")
    add("--products", type=int, default=20, help="of each room (default %(default)s)")
    add("--viewer-ids", type=Path, help="file of ids the model knows, one a line, the most active first")
    add("--streamer-ids", type=Path, help="the same of hosts")
    add("--product-ids", type=Path, help="the same of products")
    add("--events-per-recommendation", type=float, default=10.0, help="viewers' events (default %(default)g)")
    add("--room-changes-per-second", type=float, help="of all rooms together (default 1)")
    add("--keep-rooms", action="store_true", help="leave the rooms live at the end")
    add("--bound-ms", type=float, default=100.0, help="when a change must be visible everywhere (default %(default)g)")
    add(
        "--read-back-share",
        type=float,
        default=0.01,
        help="posts whose newest event is read back (default %(default)g)",
    )
    add("--probe-share", type=float, help="changes of rooms that are looked at, twice each (default 0.1)")
    add("--ledger", type=Path, help="file that gets `status event_id` of every event that was answered")
    add("--quiet", action="store_true", help="no table")
    options = parser.parse_args(arguments)
    options.command = " ".join(["scripts/load-serving", *(sys.argv[1:] if arguments is None else arguments)])
    defaults = {"duration": 30.0, "room_changes_per_second": 1.0, "probe_share": 0.1} | (PROOF if options.proof else {})
    for name, value in defaults.items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    options.rates = options.rates or [100.0 if options.rate is None else options.rate]
    refuse_nonsense(parser, options)
    return options


def refuse_nonsense(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """End with a sentence if an option makes no sense."""
    parts = urlsplit(options.url)
    try:
        port = parts.port or {"http": 80, "https": 443}[parts.scheme]
    except (ValueError, KeyError):
        parser.error(f"url is {options.url!r}: expected http://host:port or https://host")
    if not parts.hostname or parts.path.strip("/") or parts.query:
        parser.error(f"url is {options.url!r}: expected http://host:port without a path")
    if parts.username or parts.password:
        parser.error("url holds a password: keys come from ROOMREC_LOAD_KEY")
    options.target = Target(parts.hostname, port, parts.scheme == "https")
    above = ("duration", "connections", "timeout", "k", "viewers", "rooms", "bound_ms", "burst_seconds", "drain")
    for name in above:
        if not 0 < getattr(options, name) < float("inf"):
            parser.error(f"--{name.replace('_', '-')} is {getattr(options, name):g}: expected a number above 0")
    for name in ("warmup", "burst", "zipf", "events_per_recommendation", "room_changes_per_second", "concurrency"):
        if not 0 <= getattr(options, name) < float("inf"):
            parser.error(f"--{name.replace('_', '-')} is {getattr(options, name):g}: expected a number of at least 0")
    for name in ("read_back_share", "probe_share"):
        if not 0 <= getattr(options, name) <= 1:
            parser.error(f"--{name.replace('_', '-')} is {getattr(options, name):g}: expected a share, 0 to 1")
    if not all(0 < rate < float("inf") for rate in options.rates):
        parser.error(f"rates are {options.rates}: expected numbers above 0")
    if not 1 <= options.products <= MOST_PRODUCTS:
        parser.error(f"--products is {options.products}: expected 1 to {MOST_PRODUCTS}, as many as one may ask for")
    if options.burst and options.concurrency:
        parser.error("--burst needs --rate: a closed loop sends as fast as it is answered")
    if options.concurrency:
        options.connections = max(options.connections, options.concurrency + 16)  # and some for events


def rates(text: str) -> list[float]:
    """Read numbers with commas between them."""
    return [float(word) for word in text.split(",") if word]


def stretches(options: argparse.Namespace) -> list[Stretch]:
    """Return what to play, one after another."""
    if options.concurrency:
        loads = [{"concurrency": options.concurrency}]
    else:
        loads = [{"rate": rate} for rate in options.rates]
    played = [Stretch("warm-up", options.warmup, **loads[0], is_warmup=True)] if options.warmup else []
    for load in loads:
        name = " ".join(f"{key} {value:g}" for key, value in load.items())
        if not options.burst:
            played.append(Stretch(name, options.duration, **load))
            continue
        burst = options.burst_seconds
        around = max((options.duration - burst) / 2, 1.0)
        played += [
            Stretch(f"{name}, before", around, **load),
            Stretch(f"{name}, burst", burst, rate=load["rate"] * options.burst, is_aftermath=True),
            Stretch(f"{name}, after", around, **load, is_aftermath=True),
        ]
    return played
