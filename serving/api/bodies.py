"""Request bodies: read with a limit, and taken apart so that one bad line spoils nothing else."""

import json
import re
from collections.abc import Iterator
from io import BytesIO
from typing import Any, Final

import msgspec
from fastapi import HTTPException, Request

from roomrec.events.validation import Rejection

MALFORMED: Final = Rejection("malformed_json")
"""Stands for a line that is not JSON."""

MAX_EVENT_BYTES: Final = 65_536
"""A longer event is none: reading megabytes of JSON in one go keeps everybody waiting."""

TOO_LONG: Final = Rejection("too_long")
"""Stands for what is longer than ``MAX_EVENT_BYTES``."""

_DECODE = msgspec.json.Decoder().decode
_DECODE_PARTS = msgspec.json.Decoder(list[msgspec.Raw]).decode
_SCAN = json.JSONDecoder(strict=False).scan_once
_SPACE = re.compile(r"[ \t\n\r]*").match
_NOT_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError, OverflowError)


async def read_body(request: Request, *, max_bytes: int) -> bytes:
    """Read a body, refusing as soon as it is too long.

    Raises:
        HTTPException: 413 if the body is longer than ``max_bytes``, said or found.
    """
    said = request.headers.get("content-length", "")
    if said.isdecimal() and len(said) < 19 and int(said) > max_bytes:
        raise _too_long(max_bytes)
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > max_bytes:
            raise _too_long(max_bytes)
        parts.append(part)
    return b"".join(parts)


def split_events(body: bytes, *, max_events: int) -> Iterator[bytes | msgspec.Raw]:
    r"""Take a body apart into events: a JSON array, one JSON object, or one JSON object a line (NDJSON).

    A long body is taken apart while it is asked for, so that the caller can rest between two events, and what lies
    beyond the limit costs nothing.

    Args:
        body: The body as it came.
        max_events: Most events wanted; as many blank lines may lie between them.

    Yields:
        Each event as JSON, or as what stands in its place; blank lines are left out.

    Raises:
        ValueError: If the body is empty, or begins like an array and is not one.
        HTTPException: 413 if there are more events than ``max_events``.

    Example:
        >>> [decode_event(part) for part in split_events(b'{"a": 1}\nnonsense\n{"a": 2}', max_events=3)]
        [{'a': 1}, Rejection(reason='malformed_json'), {'a': 2}]
    """
    body = body.strip()
    if not body:
        raise ValueError("the body is empty: expected a JSON array of events, or one event a line")
    if body.startswith(b"["):
        yield from _array_parts(body, max_events)
    elif b"\n" not in body or (len(body) <= MAX_EVENT_BYTES and decode_event(body) is not MALFORMED):
        yield body
    else:
        yield from _lines(body, max_events)


def decode_event(part: bytes | msgspec.Raw) -> Any:
    """Return the JSON value of a part of a body, a ``Rejection`` if it is none or longer than ``MAX_EVENT_BYTES``."""
    if isinstance(part, bytes) and len(part) > MAX_EVENT_BYTES:  # what is raw comes from a short body
        return TOO_LONG
    try:
        return _DECODE(part)
    except _NOT_JSON:
        return MALFORMED


def _array_parts(body: bytes, max_events: int) -> Iterator[bytes | msgspec.Raw]:
    if len(body) > MAX_EVENT_BYTES:
        yield from _long_array_parts(body, max_events)
        return
    try:
        events = _DECODE_PARTS(body)
    except _NOT_JSON as error:
        raise _no_array(error) from None
    if len(events) > max_events:
        raise _too_many(max_events)
    yield from events


def _long_array_parts(body: bytes, max_events: int) -> Iterator[bytes]:
    """Find the end of one event after the other; whether each is an event is for others to say."""
    if not body[1:-1].strip() and body.endswith(b"]"):
        return
    start, offset, count = 1, 0, 0
    window = ""
    while True:
        found = _next_value(window, start - offset)
        if found is None:
            if start == offset:
                raise _no_array(f"event {count + 1} is no JSON, or longer than {MAX_EVENT_BYTES} bytes")
            # Latin-1 has a character for each byte: places in the text are places in the body
            window, offset = body[start : start + MAX_EVENT_BYTES].decode("latin-1"), start
            continue
        first, end, after = found
        count += 1
        if count > max_events:
            raise _too_many(max_events)
        yield body[offset + first : offset + end]
        start = offset + after + 1
        if window[after] != ",":
            break
    if window[after] != "]" or start != len(body):
        raise _no_array(f"after event {count} comes neither another nor the end")


def _next_value(text: str, start: int) -> tuple[int, int, int] | None:
    """Return where a JSON value begins and ends, and what follows it; None if not all of this is here."""
    first = _SPACE(text, start).end()
    try:
        _, end = _SCAN(text, first)
    except (StopIteration, *_NOT_JSON):
        return None
    after = _SPACE(text, end).end()
    return None if after == len(text) else (first, end, after)


def _lines(body: bytes, max_events: int) -> Iterator[bytes]:
    events = 0
    for nth, line in enumerate(BytesIO(body)):
        if nth >= 2 * max_events:
            raise _too_many(max_events)
        if line.strip():
            if events == max_events:
                raise _too_many(max_events)
            events += 1
            yield line


def _no_array(error: object) -> ValueError:
    return ValueError(f"the body begins like a JSON array and is not one: {error}")


def _too_many(max_events: int) -> HTTPException:
    return HTTPException(413, f"the body holds more than {max_events} events")


def _too_long(max_bytes: int) -> HTTPException:
    return HTTPException(413, f"the body is longer than {max_bytes} bytes")
