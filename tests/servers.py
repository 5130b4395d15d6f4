"""Servers for tests: in this process, and on a free port."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from affetto import Recogniser
from affetto.serving.app import routed
from affetto.serving.limits import Limits
from affetto.serving.run import bind, server
from affetto.serving.service import Service


@contextmanager
def serving(recogniser: Recogniser, limits: Limits | None = None) -> Iterator[Service]:
    service = Service(recogniser, "small", 1, limits)
    try:
        yield service
    finally:
        service.jobs.close()


@contextmanager
def running(service: Service, api_key: str | None = None) -> Iterator[str]:
    """Runs a real server on a free port; yields its address, ``127.0.0.1:PORT``."""
    bound = bind("127.0.0.1", 0, None)
    served = server(routed(service, api_key), service.limits.idle_seconds)
    thread = threading.Thread(target=lambda: asyncio.run(served.serve([bound])), daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{bound.getsockname()[1]}"
    finally:
        served.should_exit = True
        thread.join(20)
        bound.close()
