"""Request bodies: read with a limit, and taken apart so that one bad line spoils nothing else."""

from io import BytesIO
from typing import Any, Final

import msgspec
from fastapi import HTTPException, Request

from roomrec.events.validation import Rejection

MALFORMED: Final = Rejection("malformed_json")
"""Stands for a line that is not JSON."""

_DECODE = msgspec.json.Decoder().decode
_DECODE_PARTS = msgspec.json.Decoder(list[msgspec.Raw]).decode
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


def split_events(body: bytes, *, max_events: int) -> list[bytes | msgspec.Raw]:
    r"""Take a body apart into events: a JSON array, one JSON object, or one JSON object a line (NDJSON).

    Args:
        body: The body as it came.
        max_events: Most events wanted; lines beyond are not read.

    Returns:
        Each event as JSON, or as what stands in its place; blank lines do not count.

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
        try:
            events = _DECODE_PARTS(body)
        except _NOT_JSON as error:
            raise ValueError(f"the body begins like a JSON array and is not one: {error}") from None
        if len(events) > max_events:
            raise _too_many(max_events)
        return events
    if b"\n" not in body or decode_event(body) is not MALFORMED:
        return [body]
    events = []
    for line in BytesIO(body):
        if line.strip():
            if len(events) == max_events:
                raise _too_many(max_events)
            events.append(line)
    return events


def decode_event(part: bytes | msgspec.Raw) -> Any:
    """Return the JSON value of a part of a body, ``MALFORMED`` if it is none."""
    try:
        return _DECODE(part)
    except _NOT_JSON:
        return MALFORMED


def _too_many(max_events: int) -> HTTPException:
    return HTTPException(413, f"the body holds more than {max_events} events")


def _too_long(max_bytes: int) -> HTTPException:
    return HTTPException(413, f"the body is longer than {max_bytes} bytes")
