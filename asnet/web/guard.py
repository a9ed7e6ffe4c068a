"""Middleware for every request: origin, size of the body, and security headers of the response."""

from collections.abc import Container
from urllib.parse import SplitResult, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: No external resources; the page's own images are blobs.
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src 'self' blob:; form-action 'none'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class Guard:
    """ASGI middleware: refuses requests of other sites in the user's browser, and uploads that are too large.

    Parameters
    ----------
    app : ASGI application
        The guarded application.
    hosts : container of str, optional
        Names under which the server may be addressed, so that no foreign name can be pointed at it; any name
        if None.
    largest_body : int
        Bytes of a request's body.
    """

    def __init__(self, app: ASGIApp, *, hosts: Container[str] | None, largest_body: int) -> None:
        self._app = app
        self._hosts = hosts
        self._largest_body = largest_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        headers = Headers(scope=scope)
        problem = self._foreign(headers)
        if problem is not None:
            await _refuse(403, problem, scope, receive, send_marked)
            return
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > self._largest_body:
            # Browsers show a response only after they have sent the whole request.
            while (await receive()).get("more_body", False):
                pass
            await _refuse(413, self._too_large, scope, receive, send_marked)
            return

        received = 0

        async def receive_counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._largest_body:
                raise HTTPException(413, self._too_large)
            return message

        await self._app(scope, receive_counted, send_marked)

    @property
    def _too_large(self) -> str:
        return (
            f"the upload is larger than the limit of {self._largest_body / 1e6:g} megabytes; "
            "asnet serve --max-upload raises it"
        )

    def _foreign(self, headers: Headers) -> str | None:
        host = headers.get("host", "")
        if self._hosts is not None and (_split(f"//{host}").hostname or "") not in self._hosts:
            return f"the server is not named {host!r}"
        origin = headers.get("origin")
        if origin is not None and _split(origin).netloc != host:
            return f"requests from {origin!r} are refused"
        # Image and script requests of other pages have no origin; following a link from there is allowed.
        if headers.get("sec-fetch-site", "none") not in ("none", "same-origin") and (
            headers.get("sec-fetch-mode") != "navigate"
        ):
            return "requests from other sites are refused"
        return None


def _split(address: str) -> SplitResult:
    """Return the parts of an address; none if it is invalid."""
    try:
        return urlsplit(address)
    except ValueError:
        return SplitResult("", "", "", "", "")


async def _refuse(status: int, sentence: str, scope: Scope, receive: Receive, send: Send) -> None:
    await JSONResponse({"detail": sentence}, status)(scope, receive, send)
