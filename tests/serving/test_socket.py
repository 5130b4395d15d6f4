"""Sessions over a WebSocket, and a server on a port."""

import json
import socket
import sys
import time
from base64 import urlsafe_b64encode
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from starlette.testclient import TestClient, WebSocketDenialResponse
from typer.testing import CliRunner

from affetto import Recogniser
from affetto.__main__ import main
from affetto.cli import app as command
from affetto.errors import ConfigError
from affetto.serving import run
from affetto.serving.app import routed
from affetto.serving.limits import Limits
from affetto.serving.run import bind
from affetto.serving.service import Service
from servers import running, serving

STREAM = "/v1/audio/emotions/stream"


def session(
    client: Any, samples: NDArray[np.int16], step: int = 1600, **settings: Any
) -> list[dict[str, Any]]:
    """Sends samples, and returns everything that the server sends."""
    with client.websocket_connect(STREAM) as socket:
        got = [socket.receive_json()]
        if settings:
            socket.send_json({"type": "session.update", "session": settings})
            got.append(socket.receive_json())
        for start in range(0, len(samples), step):
            socket.send_bytes(samples[start : start + step].astype("<i2").tobytes())
        socket.send_json({"type": "session.end"})
        while got[-1]["type"] != "session.closed":
            got.append(socket.receive_json())
    return got


@pytest.mark.parametrize("settings", [{}, {"window": 1.0, "hop": 0.5, "speaker": "Ann"}])
def test_a_file_and_its_stream_give_the_same_numbers(
    client: TestClient, wav: Path, sound: NDArray[np.int16], settings: dict[str, Any]
) -> None:
    client.post("/v1/speakers/Ann", files={"file": wav.read_bytes()})
    fields = {"response_format": "verbose_json", "window": 2.0, "hop": 1.0, **settings}
    with wav.open("rb") as file:
        answer = client.post("/v1/audio/emotions", files={"file": file}, data=fields).json()
    got = session(client, sound, **settings)
    assert got[0]["type"] == "session.created"
    results = [message for message in got if message["type"] == "result"]
    assert len(results) == len(answer["segments"])
    for result, segment in zip(results, answer["segments"], strict=True):
        assert result["audio_start_ms"] == pytest.approx(1000 * segment["start"], abs=1e-3)
        assert result["audio_end_ms"] == pytest.approx(1000 * segment["end"], abs=1e-3)
        assert result["label"] == segment["label"]
        assert result["scores"] == pytest.approx(segment["scores"], abs=1e-5)
    assert got[-1] == {
        "type": "session.closed",
        "reason": "ended",
        "audio_ms": round(len(sound) / 16, 3),
    }


def test_what_is_wrong_is_answered_and_the_session_goes_on(
    client: TestClient, sound: NDArray[np.int16]
) -> None:
    def codes(*messages: str | bytes) -> list[str]:
        found = []
        for message in messages:
            if isinstance(message, str):
                socket.send_text(message)
            else:
                socket.send_bytes(message)
            answer = socket.receive_json()
            assert answer["type"] == "error"
            assert not answer["fatal"]
            assert answer["error"]["message"]
            found.append(answer["error"]["code"])
        return found

    with client.websocket_connect(STREAM) as socket:
        socket.receive_json()
        assert codes("Hello", "[]", b"abc", b"", bytes(400_000)) == [
            *["invalid_audio_frame"] * 4,
            "message_too_large",
        ]
        updates = [
            {"colour": 1},
            {"window": "long"},
            {"window": None},
            {"classes": ["joy"]},
            {"speaker": "X"},
        ]
        texts = [json.dumps({"type": "session.update", "session": each}) for each in updates]
        assert codes(*texts, '{"type": "session.update"}', '{"type": "dance"}') == ["invalid_request"] * 7
        socket.send_bytes(sound[:1600].tobytes())
        assert codes('{"type": "session.update", "session": {}}') == ["session_update_late"]
        socket.send_bytes(sound[1600:32_000].tobytes())
        result = socket.receive_json()
        assert (result["type"], result["audio_end_ms"]) == ("result", 2000)


def test_limits_are_said(recogniser: Recogniser, sound: NDArray[np.int16]) -> None:
    limits = Limits(seconds=4.0, behind_seconds=1.0, sessions=1, silent_seconds=0.3)
    with serving(recogniser, limits) as service:
        client = TestClient(routed(service, None))
        got = session(client, np.tile(sound[:64_000], 2), 48_000)
        kinds = [message["type"] for message in got]
        assert kinds.index("session.behind") < kinds.index("session.caught_up")
        assert kinds.count("result") == 5  # nothing that came before the limit is lost
        assert got[-2]["error"]["code"] == got[-1]["reason"] == "too_long"
        with client.websocket_connect(STREAM) as first, client.websocket_connect(STREAM) as second:
            assert first.receive_json()["type"] == "session.created"
            assert second.receive_json()["error"]["code"] == "too_many_sessions"
            assert first.receive_json()["error"]["code"] == "silent"


def test_a_socket_needs_the_key_and_this_site(service: Service) -> None:
    client = TestClient(routed(service, "schlüssel"))
    name = "affetto.key." + urlsafe_b64encode("schlüssel".encode()).decode().rstrip("=")
    with client.websocket_connect(STREAM, subprotocols=["affetto", name]) as socket:
        assert socket.accepted_subprotocol == "affetto"
        assert socket.receive_json()["type"] == "session.created"
    for subprotocols, headers in (
        (["affetto", "affetto.key.AAAA"], {}),
        (["affetto", "affetto.key.A"], {}),
        ([], {"Authorization": "Bearer wrong"}),
        (["affetto", name], {"Origin": "http://elsewhere.example"}),
    ):
        with (
            pytest.raises(WebSocketDenialResponse) as denied,
            client.websocket_connect(STREAM, subprotocols=subprotocols, headers=headers),
        ):
            pass
        assert denied.value.status_code in (401, 403)


def test_a_real_server_streams(service: Service, sound: NDArray[np.int16]) -> None:
    from websockets.sync.client import connect

    with running(service) as address, connect(f"ws://{address}{STREAM}") as stream:
        assert json.loads(stream.recv(20))["type"] == "session.created"
        stream.send(sound[:32_000].tobytes())
        assert json.loads(stream.recv(20))["audio_end_ms"] == 2000
        stream.send(b"\0" * 1_100_000)  # larger than any message may be
        with pytest.raises(Exception, match="1009"):
            stream.recv(20)


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="of Linux")
def test_a_client_that_reads_nothing_ends_its_session(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "UNREAD_SECONDS", 1.0)
    head = f"GET {STREAM} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    head += "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    with running(service) as address, socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(20)
        client.connect(("127.0.0.1", int(address.rpartition(":")[2])))
        client.sendall(head.encode())
        with suppress(ConnectionError):  # each odd frame is answered by an error
            while True:
                client.sendall(1000 * b"\x82\x81\0\0\0\0x")
        began = time.monotonic()
        while service.sessions:
            assert time.monotonic() < began + 20
            time.sleep(0.02)


def test_a_port_that_is_taken_and_a_host_without_a_key_are_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with bind("127.0.0.1", 0, None) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setattr(sys, "argv", ["affetto", "serve", "--port", str(port)])
        with pytest.raises(SystemExit) as ended:
            main()
    assert ended.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"error: cannot take port {port} of 127.0.0.1: Address already in use; name another with --port"
    )
    with pytest.raises(ConfigError, match="AFFETTO_API_KEY"):
        bind("0.0.0.0", 0, None)
    bind("0.0.0.0", 0, "key").close()
    with pytest.raises(ConfigError, match="cannot take port"):
        bind("no-such-host.invalid", 0, "key")


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "affetto.serving.run")
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(Exception, match=r"pip install 'affetto\[serve\]'"):
        CliRunner().invoke(command, ["serve"], catch_exceptions=False)
