"""Runs a server: the port first, so that one that is taken shows at once."""

import asyncio
import logging
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from affetto.errors import ConfigError
from affetto.inference import Recogniser
from affetto.models.checkpoint import SHIPPED
from affetto.parallel import cores
from affetto.serving.app import routed
from affetto.serving.service import Service

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
UNREAD_SECONDS = 60.0  # in which a client reads nothing of what was sent; then its connection ends
_MESSAGE_BYTES = 1 << 20  # a larger message on a socket ends it
_NONSENSE = ("handshake", "Invalid UTF-8", "Invalid HTTP request", "Unsupported upgrade")


def serve(
    model: str,
    encoder: str,
    host: str,
    port: int,
    api_key: str | None,
    workers: int | None,
    ready: Callable[[str], None],
) -> None:
    """Serves a recogniser until it is interrupted; calls ``ready`` with the address.

    ``encoder`` is the folder of the model that the recogniser's encoder needs, "" for the one it names.
    """
    with bind(host, port, api_key) as bound:
        # Where a folder is, is not the business of clients.
        name = Path(model).resolve().name if model not in SHIPPED and Path(model).is_dir() else model
        service = Service(
            Recogniser.from_pretrained(model, encoder=encoder, device="cpu"), name, workers or cores()
        )
        app = routed(service, api_key, frozenset() if api_key else LOOPBACK)
        ready(f"http://{f'[{host}]' if ':' in host else host}:{bound.getsockname()[1]}")
        server(app, service.limits.idle_seconds).run([bound])


def bind(host: str, port: int, api_key: str | None) -> socket.socket:
    """Takes a port of this machine; a ConfigError where it cannot, or where a key is needed and missing."""
    if host not in LOOPBACK and not api_key:
        raise ConfigError(
            f"got --host {host} without a key: others could use this server; give --api-key KEY, or set "
            "AFFETTO_API_KEY"
        )
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        found = socket.socket(family, kind)
        if os.name == "posix":  # elsewhere it would let two servers share a port
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # of a client that does not read its answers
            found.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(1000 * UNREAD_SECONDS))
        found.bind(address)
        found.listen(2048)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(f"cannot take port {port} of {host}: {reason}; name another with --port") from error
    return found


def _is_news(record: logging.LogRecord) -> bool:
    """Whether a line of the log says more than that a client sent nonsense, which could fill the log."""
    # The server takes an answer in place of a handshake, a wrong key, for a fault of the application.
    if any(words in record.getMessage() for words in _NONSENSE):
        return False
    kind = record.exc_info[0] if record.exc_info else None
    return kind is None or not kind.__module__.startswith("websockets")


class _Connection(H11Protocol):
    """A connection that is closed where the head of a request does not come, or stops, within a while."""

    idle_seconds = 0.0
    _closing: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def _watch(self) -> None:
        if self.conn.their_state is h11.IDLE:
            self._closing = self._closing or self.loop.call_later(self.idle_seconds, self.transport.close)
        elif self._closing:
            self._closing.cancel()
            self._closing = None


def server(app: ASGIApp, idle_seconds: float) -> uvicorn.Server:
    """Returns what serves an application; it keeps no log of requests.

    A connection whose client sends no whole head of a request is closed after ``idle_seconds``.
    """
    protocol: Any = type("Connection", (_Connection,), {"idle_seconds": idle_seconds})
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # warns of every damaged form
    for name in ("uvicorn.error", "asyncio"):
        logging.getLogger(name).addFilter(_is_news)
    return uvicorn.Server(
        uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            server_header=False,
            http=protocol,
            ws_max_size=_MESSAGE_BYTES,
            ws_per_message_deflate=False,
            ws_ping_interval=None,  # while a session is behind, no answer to a ping is read
            timeout_graceful_shutdown=10,
        )
    )
