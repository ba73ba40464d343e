"""A request to an ASGI application, and its answer as one piece: for routes that are not in a hurry."""

from collections.abc import Awaitable, Callable
from typing import Any, Final

from serving.http.messages import Answer, Request

AsgiApplication = Callable[
    [dict[str, Any], Callable[[], Awaitable[Any]], Callable[[Any], Awaitable[None]]], Awaitable[None]
]
"""As in the ASGI specification, version 3."""

_OWN_HEADERS: Final = frozenset({b"content-length", b"content-type", b"connection", b"date", b"transfer-encoding"})


async def answer_by_asgi(application: AsgiApplication, request: Request, *, server: tuple[str, int]) -> Answer:
    """Let an application answer.

    Args:
        application: Not streaming: what it sends is put together first.
        request: A whole request.
        server: Address and port it came to.

    Returns:
        The answer.

    Raises:
        RuntimeError: If the application ended without an answer.
    """
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": "http",
        "path": request.path,
        "raw_path": request.raw_path,
        "query_string": request.query,
        "root_path": "",
        "headers": list(request.headers.items()),
        "client": request.client,
        "server": server,
    }
    received = False
    status, headers, parts = 0, list[tuple[bytes, bytes]](), list[bytes]()

    async def receive() -> dict[str, Any]:
        nonlocal received
        if received:
            return {"type": "http.disconnect"}
        received = True
        return {"type": "http.request", "body": request.body, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        nonlocal status, headers
        if message["type"] == "http.response.start":
            status, headers = message["status"], list(message.get("headers", ()))
        else:
            parts.append(message.get("body", b""))

    await application(scope, receive, send)
    if not status:
        raise RuntimeError(f"{request.method} {request.path} was not answered")
    content_type = next((value for name, value in headers if name.lower() == b"content-type"), b"text/plain")
    others = tuple((name, value) for name, value in headers if name.lower() not in _OWN_HEADERS)
    return Answer(status, b"".join(parts), content_type, others)
