"""HTTP/1.1 answers, read as cheaply as Python can: where the head ends, how long the body is, nothing else."""

from typing import NamedTuple


class Answer(NamedTuple):
    """A whole answer."""

    status: int
    head: bytes
    """reason and headers in small letters"""
    body: bytes


def read_answer(data: bytes) -> Answer | int:
    r"""Read one answer.

    Args:
        data: Everything that has come since the request was sent.

    Returns:
        The answer, or how many bytes are missing at least; 0 if that cannot be known yet.

    Raises:
        ValueError: If it is no answer with a length, or more has come than was announced.

    Example:
        >>> read_answer(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        Answer(status=200, head=b' ok\r\ncontent-length: 2', body=b'ok')
        >>> read_answer(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nok")
        5
    """
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return 0
    head = data[12:end].lower()
    length = find_header(head, b"content-length")
    if length is None:
        body = _dechunk(data, end + 4, head)
        return 0 if body is None else Answer(int(data[9:12]), head, body)
    missing = int(length) - (len(data) - end - 4)
    if missing > 0:
        return missing
    if missing < 0:
        raise ValueError(f"{-missing} bytes more than were announced")
    return Answer(int(data[9:12]), head, data[end + 4 :])


def find_header(head: bytes, name: bytes) -> bytes | None:
    """Return a header by its name in small letters, None if there is none."""
    place = head.find(b"\r\n" + name + b":")
    if place < 0:
        return None
    place += len(name) + 3
    end = head.find(b"\r\n", place)
    return (head[place:] if end < 0 else head[place:end]).strip()


def _dechunk(data: bytes, place: int, head: bytes) -> bytes | None:
    """Put a body in chunks together; None while it is not whole."""
    if find_header(head, b"transfer-encoding") != b"chunked":
        if find_header(head, b"connection") == b"close" or len(data) > place:
            raise ValueError("a body without a length")
        return b""  # a status that has no body
    body: list[bytes] = []
    while (line := data.find(b"\r\n", place)) >= 0:
        size = int(data[place:line].split(b";")[0], 16)
        if len(data) < line + 2 + size + 2:
            return None
        if size == 0:
            return b"".join(body)
        body.append(data[line + 2 : line + 2 + size])
        place = line + 2 + size + 2
    return None
