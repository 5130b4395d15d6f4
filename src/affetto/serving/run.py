"""Runs a server: the port first, so that one that is taken shows at once."""

import logging
import os
import socket
from collections.abc import Callable
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from affetto.errors import ConfigError
from affetto.inference import Recogniser
from affetto.models.checkpoint import SHIPPED
from affetto.parallel import cores
from affetto.serving.app import routed
from affetto.serving.service import Service

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
_MESSAGE_BYTES = 1 << 20  # a larger message on a socket ends it


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
        server(app).run([bound])


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
        found.bind(address)
        found.listen(2048)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(f"cannot take port {port} of {host}: {reason}; name another with --port") from error
    return found


def _is_news(record: logging.LogRecord) -> bool:
    """Whether a line of the log says more than that a client sent nonsense, which could fill the log."""
    # The server takes an answer in place of a handshake, a wrong key, for a fault of the application.
    if any(words in record.getMessage() for words in ("handshake", "Invalid UTF-8")):
        return False
    kind = record.exc_info[0] if record.exc_info else None
    return kind is None or not kind.__module__.startswith("websockets")


def server(app: ASGIApp) -> uvicorn.Server:
    """Returns what serves an application; it keeps no log of requests."""
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # warns of every damaged form
    for name in ("uvicorn.error", "asyncio"):
        logging.getLogger(name).addFilter(_is_news)
    return uvicorn.Server(
        uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            server_header=False,
            ws_max_size=_MESSAGE_BYTES,
            ws_per_message_deflate=False,
            ws_ping_interval=None,  # while a session is behind, no answer to a ping is read
            timeout_graceful_shutdown=10,
        )
    )
