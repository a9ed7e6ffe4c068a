"""The server process: its socket, and a shutdown that leaves nothing behind."""

import ipaddress
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import uvicorn
from fastapi import FastAPI

from asnet.deblurring.deblurrer import Deblurrer
from asnet.errors import AsnetError
from asnet.web.application import Limits, create_application

#: Seconds in which waiting requests are answered at shutdown.
_GRACE = 3


class _Server(uvicorn.Server):
    """A server that answers waiting requests before it shuts down."""

    def __init__(self, application: FastAPI) -> None:
        super().__init__(uvicorn.Config(application, log_level="warning", timeout_graceful_shutdown=_GRACE))
        self._stop: Callable[[], None] = application.state.stop

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """See uvicorn."""
        self._stop()
        await super().shutdown(sockets)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """See uvicorn, which does not handle SIGHUP: closing the terminal would leave the files behind."""
        hangup = getattr(signal, "SIGHUP", None)
        # nohup ignores it.
        if hangup is not None and signal.getsignal(hangup) is signal.SIG_DFL:
            signal.signal(hangup, self.handle_exit)
        with super().capture_signals():
            yield


class AddressError(AsnetError):
    """The server cannot listen at the address."""


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server at that address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def serve(
    deblurrer: Deblurrer, limits: Limits, *, host: str, port: int, announce: Callable[[str], None]
) -> None:
    """Serve the page and the API until the process is told to end.

    Parameters
    ----------
    deblurrer : Deblurrer
        The networks.
    limits : Limits
        What the server takes.
    host, port : str, int
        Where to listen; port 0 is any free port.
    announce : callable
        Called with the page's address as soon as it can be opened.

    Raises
    ------
    AddressError
        If it cannot listen there.
    """
    listening = _listen(host, port)
    with listening:
        port = listening.getsockname()[1]
        hosts = {host, "localhost", "127.0.0.1", "::1"} if is_loopback(host) else None
        application = create_application(deblurrer, limits, hosts=hosts)
        announce(f"http://{f'[{host}]' if ':' in host else host}:{port}")
        # After an orderly shutdown, uvicorn raises the signal again.
        with suppress(KeyboardInterrupt):
            _Server(application).run(sockets=[listening])


def _listen(host: str, port: int) -> socket.socket:
    if not 0 <= port <= 65535:
        raise AddressError(f"a port must be from 0 to 65535, got {port}")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
        try:
            # Lets a new server start right after another has ended.
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
            listening.listen()
        except BaseException:
            listening.close()
            raise
        return listening
    except OSError as error:
        raise AddressError(f"cannot listen at {host}, port {port}: {error.strerror or error}") from None
