"""The guard in front of an ASGI application; plain ASGI, since it stands before every request."""

from starlette.types import ASGIApp, Receive, Scope, Send

from serving.access.guard import Guard


class GuardRequests:
    """Answers what the guard refuses, and lets the rest through.

    Args:
        app: What answers.
        guard: Decides.
    """

    def __init__(self, app: ASGIApp, guard: Guard) -> None:
        self._app = app
        self._guard = guard

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer or refuse a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        refusal = self._guard.check(scope["method"], scope["path"], dict(scope["headers"]))
        if refusal is None:
            await self._app(scope, receive, send)
            return
        length = str(len(refusal.body)).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", length), *refusal.headers]
        await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
        await send({"type": "http.response.body", "body": refusal.body})
