"""One run of the load tool: everything put together, played, tidied up and summarised."""

import argparse
import asyncio
import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, TextIO

import numpy as np

from scripts.load_serving.agenda import Agenda, now
from scripts.load_serving.checks import Checks
from scripts.load_serving.connections import Pool, Target
from scripts.load_serving.display import Display
from scripts.load_serving.generator import build_request, cpu_time, request_head, without_collections
from scripts.load_serving.options import MOST_PRODUCTS, stretches
from scripts.load_serving.report import summarise
from scripts.load_serving.reporting import Reporter
from scripts.load_serving.rooms import EventMaker, Rooms
from scripts.load_serving.traffic import Heads, Measured, Stretch, Traffic
from scripts.load_serving.truth import Truth
from scripts.load_serving.viewers import Audience

_OPENING_S: Final = 120.0


class LoadError(Exception):
    """A run that cannot begin; the sentence says why."""


async def run(options: argparse.Namespace) -> dict[str, Any]:
    """Play everything that was asked for.

    Args:
        options: The command line, as ``read_options`` gives it.

    Returns:
        What was found.

    Raises:
        OSError: If the endpoint cannot be reached.
        LoadError: If it does not let the rooms open.
    """
    with open_ledger(options.ledger) as ledger:
        pool = Pool([options.target], connections=options.connections, timeout_s=options.timeout)
        agenda = Agenda()
        try:
            await pool.open()
            return await Evening(options, pool, agenda, ledger).play()
        finally:
            agenda.close()
            await pool.close()


def open_ledger(path: Path | None) -> contextlib.AbstractContextManager[TextIO | None]:
    """Open the ledger's file, if one is asked for.

    Raises:
        LoadError: If it cannot be written.
    """
    if path is None:
        return contextlib.nullcontext()
    try:
        return path.open("w")
    except OSError as error:
        raise LoadError(f"--ledger {path} cannot be written: {error.strerror}") from None


class Evening:
    """All parts of a run, put together.

    Args:
        options: The command line.
        pool: Open connections.
        agenda: Instants.
        ledger: Gets a line for every event that was answered.
    """

    def __init__(self, options: argparse.Namespace, pool: Pool, agenda: Agenda, ledger: TextIO | None) -> None:
        rng = np.random.default_rng(options.seed)
        maker = EventMaker(options.run_id)
        heads = make_heads(options.target)
        self._options = options
        self._pool = pool
        self._ledger = ledger
        self._truth = Truth(options.bound_ms / 1000)
        self._reporter = Reporter(pool, agenda, ledger=ledger)
        rooms = Rooms(
            maker,
            streamer_ids=named("load-s", options.rooms, options.streamer_ids),
            # a product has one stock, so another run at the same time must have others
            product_ids=named(f"{options.run_id}-p", options.rooms * options.products, options.product_ids),
            products_per_room=options.products,
            rng=rng,
        )
        viewer_ids = named("load-v", options.viewers, options.viewer_ids, is_enough=True)
        audience = Audience(maker, viewer_ids=viewer_ids, exponent=options.zipf, k=options.k, rng=rng)
        self._checks = Checks(
            pool,
            agenda,
            self._truth,
            probe=lambda room_id: heads.recommend(audience.ask_products(audience.viewer(), room_id, MOST_PRODUCTS)),
            draw=rng.random,
            read_back_share=options.read_back_share,
            probe_share=options.probe_share,
            bound_s=options.bound_ms / 1000,
        )
        self._traffic = Traffic(
            pool=pool,
            agenda=agenda,
            heads=heads,
            rooms=rooms,
            audience=audience,
            truth=self._truth,
            reporter=self._reporter,
            checks=self._checks,
            events_per_recommendation=options.events_per_recommendation,
            room_changes_per_second=options.room_changes_per_second,
            rng=rng,
        )

    async def play(self) -> dict[str, Any]:
        """Open the rooms, play all stretches or as many as there are before Ctrl-C, end the rooms, summarise.

        Raises:
            LoadError: If the rooms cannot be opened.
        """
        options, traffic = self._options, self._traffic
        cpu_s = cpu_time()
        with ending_early(traffic.stop):
            await self._open_rooms()
            with without_collections():
                measured = await self._play_stretches()
            await traffic.finish(options.drain)
            if not options.keep_rooms:
                with contextlib.suppress(TimeoutError):  # where nobody answers any more; the posts are counted
                    await asyncio.wait_for(traffic.close_rooms(), options.drain)
            await traffic.finish(options.drain)
        return summarise(
            measured=measured,
            traffic=traffic,
            reporter=self._reporter,
            truth=self._truth,
            checks=self._checks,
            pool=self._pool,
            bound_ms=options.bound_ms,
            cpu_s=cpu_time() - cpu_s,
            asked={
                "command": options.command,
                "date": time.strftime("%Y-%m-%d"),
                "run_id": options.run_id,
                "seed": options.seed,
                "connections": options.connections,
            },
        )

    async def _open_rooms(self) -> None:
        reporter = self._reporter
        opening = asyncio.ensure_future(self._traffic.open_rooms())
        stopped = asyncio.ensure_future(self._traffic.stop.wait())
        done, _ = await asyncio.wait((opening, stopped), timeout=_OPENING_S, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if opening in done and not (reporter.refused or reporter.statuses["rejected"]):
            return
        opening.cancel()
        if stopped in done:
            raise LoadError("ended before the rooms were open: nothing was measured")
        why = next(iter(reporter.problems), reporter.newest_trouble)
        hint = "; ROOMREC_LOAD_OPERATOR_KEY holds the key of who may report them" if why[:3] in ("401", "403") else ""
        raise LoadError(f"{self._options.url} does not take the events that open the rooms: {why}{hint}")

    async def _play_stretches(self) -> list[Measured]:
        measured: list[Measured] = []
        display = None if self._options.quiet else Display()
        try:
            for stretch in stretches(self._options):
                showing = asyncio.create_task(self._show(display, stretch))
                played = await self._traffic.play(stretch)
                showing.cancel()
                if not stretch.is_warmup:
                    measured.append(played)
                if self._traffic.stop.is_set():
                    break
        finally:
            if display is not None:
                display.close()
        return measured

    async def _show(self, display: Display | None, stretch: Stretch) -> None:
        end = now() + stretch.seconds
        while True:
            await asyncio.sleep(1)
            if self._ledger is not None:
                self._ledger.flush()
            if display is not None:
                pending, breaches = self._reporter.pending_events, self._truth.not_live_shown
                below = {"unacknowledged": pending, "not_live_shown": breaches}
                display.tell(stretch.name, max(end - now(), 0), self._traffic, self._pool, below)


@contextlib.contextmanager
def ending_early(stop: asyncio.Event) -> Iterator[None]:
    """Let the first Ctrl-C or SIGTERM set an event; a second one ends at once."""
    loop = asyncio.get_running_loop()

    def end() -> None:
        stop.set()
        restore()

    def restore() -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, end)
    try:
        yield
    finally:
        restore()


def make_heads(target: Target) -> Heads:
    """Return the beginnings of all requests, with keys from the environment.

    Raises:
        LoadError: If a key cannot be sent.
    """
    frontend, operator = access()
    return Heads(
        recommendations=request_head(target, "POST", "/v1/recommendations", authorization=frontend),
        events=request_head(target, "POST", "/v1/events", authorization=frontend),
        room_events=request_head(target, "POST", "/v1/events", authorization=operator),
        users=lambda path: build_request(target, "GET", path, authorization=operator),
    )


def named(begins: str, number: int, file: Path | None, *, is_enough: bool = False) -> list[str]:
    """Return ids: those of a file, one a line, else made ones.

    Args:
        begins: Beginning of a made id.
        number: How many are wanted.
        file: Where to read them.
        is_enough: Whether a file may hold fewer.

    Raises:
        LoadError: If the file cannot be read or names too few.
    """
    if file is None:
        return [f"{begins}{place:07d}" for place in range(number)]
    try:
        ids = list(dict.fromkeys(file.read_text().split()))
    except OSError as error:
        raise LoadError(f"{file} cannot be read: {error.strerror}") from None
    if len(ids) < number and not (is_enough and ids):
        raise LoadError(f"{file} names {len(ids)} ids: {number} are needed, see --rooms and --products")
    return ids[:number]


def access() -> tuple[str | None, str | None]:
    """Return the header lines of a frontend and of an operator.

    Raises:
        LoadError: If a key cannot be sent; it is not repeated.
    """
    frontend = os.environ.get("ROOMREC_LOAD_KEY")
    operator = os.environ.get("ROOMREC_LOAD_OPERATOR_KEY") or frontend
    lines = [f"authorization: Bearer {key}" if key else None for key in (frontend, operator)]
    for line in lines:
        if line is not None and not (line.isascii() and line.isprintable()):
            raise LoadError("ROOMREC_LOAD_KEY or ROOMREC_LOAD_OPERATOR_KEY holds a character that no header may hold")
    return lines[0], lines[1]
