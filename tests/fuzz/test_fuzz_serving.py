"""Damaged requests and sockets get an answer of 2xx or 4xx, or none, and leave nothing behind."""

import logging
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

from changes import Change, changes, fuzzed
from clients import damaged_request, damaged_session, exchanged, request, statuses
from hypothesis import strategies as st

from affetto import Recogniser
from affetto.serving.limits import Limits
from affetto.serving.service import Service
from servers import running, serving

LIMITS = Limits(idle_seconds=0.1, upload_seconds=2.0, silent_seconds=0.2)
WAIT_SECONDS = 20.0
AT_ONCE = 20


class Served(NamedTuple):
    """A server, what it logged as errors, and where its temporary files are."""

    port: int
    service: Service
    errors: list[str]
    folder: Path

    def held(self) -> tuple[int, int, int, int]:
        """Threads, open files, sessions and temporary files; threads kept for further work do not count."""
        files = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").is_dir() else 0
        own = sum(not each.name.startswith(("asyncio_", "AnyIO")) for each in threading.enumerate())
        return own, files, self.service.sessions, len(list(self.folder.iterdir()))

    def check(self, before: tuple[int, int, int, int]) -> None:
        """Waits for what a client left behind to end, and asks whether the server still answers."""
        until = time.monotonic() + WAIT_SECONDS
        while any(now > then for now, then in zip(self.held(), before, strict=True)):
            assert time.monotonic() < until, (before, self.held())
            time.sleep(0.02)
        (answer,) = exchanged(self.port, [request("GET", "/v1/speakers")], WAIT_SECONDS)
        assert statuses(answer or b"") == [200]
        assert self.errors == []


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    errors: list[str] = []
    folder = tmp_path_factory.mktemp("uploads")

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            errors.append(self.format(record))

    handler = Kept(logging.ERROR)
    logs = [logging.getLogger(name) for name in ("uvicorn.error", "asyncio")]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(tempfile, "tempdir", str(folder))
        for log in logs:
            log.addHandler(handler)
        with (
            serving(Recogniser.from_pretrained("small", device="cpu", any_sound=True), LIMITS) as service,
            running(service) as address,
        ):
            port = int(address.partition(":")[2])
            yield Served(port, service, errors, folder)
        for log in logs:
            log.removeHandler(handler)


def test_whole_messages_are_answered(served: Served) -> None:
    (answer,) = exchanged(served.port, [damaged_request(0, True, [])], WAIT_SECONDS)
    assert answer
    assert statuses(answer) == [200]
    (answer,) = exchanged(served.port, [damaged_session(8, [])], WAIT_SECONDS, session=True)
    assert answer
    assert statuses(answer) == [101]
    assert b'"type":"result"' in answer
    assert b'"session.closed"' in answer


REQUEST = st.tuples(st.integers(0, 1000), st.booleans(), changes())


@fuzzed(3, at_once=AT_ONCE, asked=st.lists(REQUEST, min_size=AT_ONCE, max_size=AT_ONCE))
def test_damaged_requests_are_refused_or_answered(
    served: Served, asked: list[tuple[int, bool, list[Change]]]
) -> None:
    before = served.held()
    answers = exchanged(served.port, [damaged_request(*each) for each in asked], WAIT_SECONDS)
    for (_, whole_length, _), answer in zip(asked, answers, strict=True):
        assert answer is not None
        assert [status for status in statuses(answer) if not 100 <= status < 500] == []
        assert whole_length <= bool(answer)
    served.check(before)


SESSION = st.tuples(st.integers(0, 1000), changes())


@fuzzed(3, at_once=AT_ONCE, asked=st.lists(SESSION, min_size=AT_ONCE, max_size=AT_ONCE))
def test_a_damaged_socket_ends_its_session_alone(
    served: Served, asked: list[tuple[int, list[Change]]]
) -> None:
    before = served.held()
    answers = exchanged(served.port, [damaged_session(*each) for each in asked], WAIT_SECONDS, session=True)
    for answer in answers:
        assert answer
        assert statuses(answer)[:1] == [101]
        assert b'"internal_error"' not in answer
    served.check(before)
