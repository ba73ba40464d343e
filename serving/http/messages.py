"""What comes in and what goes out: one request, one answer."""

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Final, NamedTuple

import orjson

JSON: Final = b"application/json"
"""Content type of nearly every answer."""

_PHRASES: Final = {status.value: status.phrase.encode() for status in HTTPStatus}


class Request(NamedTuple):
    """A request that has arrived whole."""

    method: str
    path: str
    """without the query, percent-decoded"""
    query: bytes
    headers: dict[bytes, bytes]
    """by name in lower case; of several with one name the values are joined by a comma"""
    body: bytes
    client: tuple[str, int]
    """address and port of the other end of the connection"""
    raw_path: bytes
    """as it was sent, without the query"""


class Answer(NamedTuple):
    """What is sent back."""

    status: int
    body: bytes
    content_type: bytes = JSON
    headers: tuple[tuple[bytes, bytes], ...] = ()
    """others than content type and length"""


Handler = Callable[[Request], Answer | Awaitable[Answer]]
"""Answers at once, or says what to wait for."""


def problem(status: int, detail: str, *headers: tuple[bytes, bytes]) -> Answer:
    """Refuse a request in a sentence.

    Example:
        >>> problem(408, "too slow").body
        b'{"detail":"too slow"}'
    """
    return Answer(status, orjson.dumps({"detail": detail}), headers=headers)


def head_of(answer: Answer, *, date: bytes, close: bool) -> bytes:
    r"""Return the status line and headers of an answer, up to the empty line.

    Args:
        answer: What is sent.
        date: The time as HTTP writes it.
        close: Whether the connection ends after it.

    Example:
        >>> head = head_of(Answer(200, b"{}"), date=b"Sun, 06 Nov 1994 08:49:37 GMT", close=True)
        >>> head.split(b"\r\n")[:2], head[-24:]
        ([b'HTTP/1.1 200 OK', b'date: Sun, 06 Nov 1994 08:49:37 GMT'], b'2\r\nconnection: close\r\n\r\n')
    """
    lines = b"HTTP/1.1 %d %b\r\ndate: %b\r\ncontent-type: %b\r\ncontent-length: %d\r\n" % (
        answer.status,
        _PHRASES.get(answer.status, b""),
        date,
        answer.content_type,
        len(answer.body),
    )
    for name, value in answer.headers:
        lines += b"%b: %b\r\n" % (name, value)
    return lines + (b"connection: close\r\n\r\n" if close else b"\r\n")
