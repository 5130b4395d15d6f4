"""Routes, formats, limits and refusals."""

import csv
import io
import json
import logging
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from filelock import FileLock
from numpy.typing import NDArray
from starlette.testclient import TestClient

from affetto import Recogniser
from affetto.media import limit_seconds
from affetto.serving.app import openapi, routed
from affetto.serving.limits import Limits
from affetto.serving.service import Service
from affetto.serving.uploads import forget_folder
from servers import running, serving

EMOTIONS = "/v1/audio/emotions"
HEAD = (
    f"POST {EMOTIONS} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: multipart/form-data; boundary=x\r\n"
).encode()


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of temporary files, which is empty after each test."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    forget_folder()
    assert list(folder.iterdir()) == []


def post(client: TestClient, content: bytes | Path, route: str = EMOTIONS, **fields: str) -> Any:
    content = content.read_bytes() if isinstance(content, Path) else content
    return client.post(route, files={"file": ("speech.wav", content)}, data=fields)


def refused(answer: Any, status: int, code: str, *words: str) -> None:
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert error["code"] == code
    for word in words:
        assert word in error["message"]
    assert tempfile.gettempdir() not in answer.text


def as_wav(samples: NDArray[Any], rate: int = 16_000) -> bytes:
    held = io.BytesIO()
    soundfile.write(held, samples, rate, format="WAV")
    return held.getvalue()


def test_uploads_of_a_server_that_was_killed_are_removed(
    client: TestClient, wav: Path, temporary: Path
) -> None:
    killed, running = temporary / "affetto-uploads-1", temporary / "affetto-uploads-2"
    for folder in (killed, running):
        folder.mkdir()
        (folder / "voice.wav").write_bytes(b"of somebody")
    with FileLock(running / "lock"):
        assert post(client, wav).status_code == 200
        assert not killed.exists()
        assert (running / "voice.wav").exists()
    shutil.rmtree(running)


def test_a_recording_is_answered_as_the_recogniser_does(
    client: TestClient, recogniser: Recogniser, wav: Path
) -> None:
    ((row),) = recogniser.files(wav)
    (segment,) = post(client, wav).json()["segments"]
    assert (segment["label"], segment["end"]) == (row["label"], row["end"])
    assert segment["confidence"] == pytest.approx(row["confidence"], abs=1e-5)
    found = post(client, wav, response_format="verbose_json", window="2", hop="1").json()
    assert found["labels"] == recogniser.labels
    assert found["space"] == f"sha256:{recogniser.sha256}"
    rows = list(recogniser.files(wav, window=2, hop=1))
    assert len(found["segments"]) == len(rows) == 5
    for segment, row in zip(found["segments"], rows, strict=True):
        assert (segment["start"], segment["end"]) == (row["start"], row["end"])
        assert segment["scores"] == pytest.approx(
            {label: row[f"p_{label}"] for label in recogniser.labels}, abs=1e-5
        )


@pytest.mark.parametrize(
    ("kind", "start", "media"),
    [
        ("csv", "file,start,end,label", "text/csv"),
        ("vtt", "WEBVTT\n\n00:00:00.000 --> ", "text/vtt"),
        ("srt", "1\n00:00:00,000 --> ", "application/x-subrip"),
        ("textgrid", 'File type = "ooTextFile"', "text/plain"),
    ],
)
def test_formats(client: TestClient, wav: Path, kind: str, start: str, media: str) -> None:
    answer = post(client, wav, response_format=kind, window="2")
    assert answer.text.startswith(start)
    assert answer.headers["content-type"].startswith(media)


@pytest.mark.parametrize("form", ["json", "csv"])
def test_segments_with_speakers(client: TestClient, wav: Path, form: str) -> None:
    assert post(client, wav, "/v1/speakers/Ann").json()["utterances"] == 1
    segments = [{"start": 0.5, "end": 2, "speaker": "Ann"}, {"start": 1, "end": 3}]
    text = json.dumps(segments) if form == "json" else "start,end,speaker\n0.5,2,Ann\n1,3,\n"
    found = post(client, wav, segments=text, response_format="verbose_json").json()["segments"]
    assert [(each["start"], each["end"], each["speaker"]) for each in found] == [
        (0.5, 2.0, "Ann"),
        (1.0, 3.0, None),
    ]
    plain = json.dumps([{"start": 0.5, "end": 2}, {"start": 1, "end": 3}])
    without = post(client, wav, segments=plain, response_format="verbose_json").json()["segments"]
    assert found[0]["scores"] != pytest.approx(without[0]["scores"], abs=1e-5)
    assert found[1]["scores"] == pytest.approx(without[1]["scores"], abs=1e-5)
    lines = list(csv.DictReader(io.StringIO(post(client, wav, segments=text, response_format="csv").text)))
    assert [line["speaker"] for line in lines] == ["Ann", ""]


def test_speakers_are_enrolled_shown_and_forgotten(
    client: TestClient, recogniser: Recogniser, wav: Path
) -> None:
    content = wav.read_bytes()
    answer = client.post(
        "/v1/speakers/Ann", files=[("file", ("a.wav", content)), ("file", ("b.wav", content))]
    )
    assert (answer.status_code, answer.json()["utterances"]) == (201, 2)
    assert [each["id"] for each in client.get("/v1/speakers").json()["data"]] == ["Ann"]
    (row,) = recogniser.files(wav, enrolment=recogniser.enrol([content, content]))
    (segment,) = post(client, wav, speaker="Ann", response_format="verbose_json").json()["segments"]
    assert segment["scores"]["anger"] == pytest.approx(row["p_anger"], abs=1e-5)
    assert client.delete("/v1/speakers/Ann").status_code == 204
    refused(client.get("/v1/speakers/Ann"), 404, "not_found", "Ann")
    refused(post(client, wav, speaker="Ann"), 422, "invalid_request", "Ann", "/v1/speakers")
    refused(post(client, wav, "/v1/speakers/a%2Fb"), 404, "not_found")
    refused(post(client, wav, f"/v1/speakers/{'a' * 65}"), 422, "invalid_request")


def test_only_some_classes_are_answered(client: TestClient, recogniser: Recogniser, wav: Path) -> None:
    (row,) = recogniser.answering(["anger", "neutral"]).files(wav)
    found = post(client, wav, classes="neutral, anger", response_format="verbose_json").json()
    assert found["labels"] == ["anger", "neutral"]
    assert found["segments"][0]["scores"] == pytest.approx(
        {label: row[f"p_{label}"] for label in ("anger", "neutral")}, abs=1e-5
    )
    assert "p_neutral,withheld" in post(client, wav, classes="neutral,anger", response_format="csv").text


def test_embeddings_name_their_space(client: TestClient, recogniser: Recogniser, wav: Path) -> None:
    found = post(client, wav, "/v1/audio/embeddings").json()
    assert found["space"] == client.get("/v1/models").json()["data"][0]["space"]
    assert found["data"][0]["embedding"] == pytest.approx(recogniser.embed(wav)[0].tolist(), abs=1e-5)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"response_format": "xml"}, ["'xml'", "verbose_json"]),
        ({"classes": "joy"}, ["'joy'", "happiness"]),
        ({"classes": "anger"}, ["two"]),
        ({"classes": "anger"}, ["at least two"]),
        ({"window": "long"}, ["'long'", "seconds"]),
        ({"window": "nan"}, ["0.1"]),
        ({"window": "0"}, ["0.1"]),
        ({"hop": "1"}, ["window"]),
        ({"window": "1", "hop": "2"}, ["hop"]),
        ({"window": "60", "hop": "0.1"}, ["20"]),
        ({"model": "base"}, ["'base'", "small"]),
        ({"colour": "red"}, ["'colour'", "response_format"]),
        ({"segments": "[1]"}, ["list"]),
        ({"segments": "[" * 100_000}, ["JSON"]),
        ({"segments": "start,end\n4,9"}, ["segment 1", "9", "5.049"]),
        ({"segments": "start,end\n0,1\n2,2"}, ["segment 2"]),
        ({"segments": "begin\n1"}, ["segment 1", "start and end"]),
        ({"segments": "[]"}, ["no segment"]),
        ({"segments": "start,end\n0,inf"}, ["segment 1"]),
    ],
)
def test_a_field_with_a_wrong_value_is_named(
    client: TestClient, wav: Path, fields: dict[str, str], words: list[str]
) -> None:
    refused(post(client, wav, **fields), 422, "invalid_request", *words)


def test_what_is_not_a_whole_recording_is_refused(client: TestClient, wav: Path) -> None:
    content = wav.read_bytes()
    refused(post(client, b"This is no sound."), 415, "unsupported_media_type", "speech.wav: not audio")
    refused(post(client, b""), 422, "empty_file", "speech.wav")
    refused(post(client, content[:90_000]), 422, "unreadable_audio", "truncated")
    refused(post(client, as_wav(np.zeros(0, np.int16))), 422, "unreadable_audio", "no samples")
    refused(client.post(EMOTIONS, data={"window": "2"}, files={}), 415, "unsupported_media_type")
    refused(client.post(EMOTIONS, json={"file": "/etc/passwd"}), 415, "unsupported_media_type", "multipart")
    two = [("file", ("a.wav", content)), ("file", ("b.wav", content))]
    refused(client.post(EMOTIONS, files=two), 422, "invalid_request", "2 files")
    refused(client.post(EMOTIONS, files={"file": (None, "/etc/passwd")}), 415, "unsupported_media_type")


def test_silence_and_other_rates_are_recordings(recogniser: Recogniser, sound: NDArray[np.int16]) -> None:
    with serving(Recogniser.from_pretrained("small", device="cpu")) as service:
        client = TestClient(routed(service, None))
        (segment,) = post(client, as_wav(np.zeros(16_000, np.int16))).json()["segments"]
        assert (segment["label"], segment["withheld"]) == ("unknown", "no speech")
        twice = np.stack([np.repeat(sound, 6)] * 2, 1)
        (segment,) = post(client, as_wav(twice, 96_000)).json()["segments"]
        assert segment["end"] == pytest.approx(len(sound) / 16_000)


def test_a_film_is_a_recording_and_no_wave_of_it_stays(
    recogniser: Recogniser, sound: NDArray[np.int16]
) -> None:
    av = pytest.importorskip("av")
    held = io.BytesIO()
    with av.open(held, "w", format="matroska") as container:
        stream = container.add_stream("aac", rate=16_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(sound[None], "s16", "mono")
        frame.sample_rate = 16_000
        container.mux([*stream.encode(frame), *stream.encode(None)])
    with serving(recogniser) as service:
        (segment,) = post(TestClient(routed(service, None)), held.getvalue()).json()["segments"]
        assert segment["end"] == pytest.approx(len(sound) / 16_000, abs=0.2)
    with serving(recogniser, Limits(seconds=4.0)) as service:
        refused(post(TestClient(routed(service, None)), held.getvalue()), 413, "too_long")
    limit_seconds(24 * 3600.0)


def test_limits(recogniser: Recogniser, wav: Path) -> None:
    with serving(recogniser, Limits(upload_bytes=100_000, seconds=4.0, field_bytes=100)) as service:
        client = TestClient(routed(service, None))
        refused(post(client, wav), 413, "too_large")
        refused(post(client, bytes(10_000_000)), 413, "too_large")
        refused(post(client, b"x", segments="0" * 200), 413, "too_large", "fields")
        short = soundfile.read(wav, dtype="int16")[0][::2]
        refused(post(client, as_wav(short, 8_000)), 413, "too_long")
    with serving(recogniser, Limits(waiting=0)) as service:
        answer = post(TestClient(routed(service, None)), wav)
        refused(answer, 429, "too_many_requests")
        assert int(answer.headers["retry-after"]) >= 1


def test_a_key_is_wanted_where_one_is_set(service: Service, wav: Path) -> None:
    client = TestClient(routed(service, "s3cret"))
    for header in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "s3cret"}):
        for answer in (
            client.get("/v1/models", headers=header),
            client.post(EMOTIONS, files={"file": wav.read_bytes()}, headers=header),
            client.delete("/v1/speakers/Ann", headers=header),
            client.get("/v1/nothing", headers=header),
        ):
            refused(answer, 401, "unauthorized", "Bearer")
    # A path that is made from the header Host must not decide whether a key is wanted.
    for host in ("a/b", "a?b", "a#b"):
        refused(client.get("/v1/models", headers={"Host": host}), 401, "unauthorized")
    client.headers["Authorization"] = "Bearer s3cret"
    assert client.get("/v1/models").status_code == 200
    assert post(client, wav).status_code == 200
    assert TestClient(routed(service, "s3cret")).get("/health").json()["status"] == "ok"


def test_pages_of_other_sites_and_other_names_are_refused(service: Service, wav: Path) -> None:
    client = TestClient(routed(service, None, frozenset({"testserver"})))
    refused(client.get("/v1/models", headers={"Origin": "http://elsewhere.example"}), 403, "forbidden")
    refused(client.get("/", headers={"Host": "elsewhere.example"}), 403, "forbidden")
    assert client.get("/v1/models", headers={"Origin": "http://testserver"}).status_code == 200
    refused(client.get("/", headers={"Host": "[27.0.0.1"}), 400, "bad_request")
    refused(client.get("/", headers={"Origin": "http://[a"}), 400, "bad_request")


def test_pages_ask_no_other_host(client: TestClient) -> None:
    for route in ("/", "/docs"):
        answer = client.get(route)
        assert answer.status_code == 200
        assert "http://" not in answer.text.replace("http://www.w3.org", "")
        assert "https://" not in answer.text
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_every_route_is_described(client: TestClient) -> None:
    described = openapi()["paths"]
    assert client.get("/openapi.json").json()["paths"] == described
    routes: dict[str, set[str]] = {}
    for route in client.app._app.routes:  # type: ignore[attr-defined]
        if getattr(route, "methods", None):
            routes.setdefault(route.path, set()).update(route.methods - {"HEAD"})
    assert set(routes) - set(described) == {"/", "/docs", "/openapi.json"}
    assert {path: {name.upper() for name in methods} for path, methods in described.items()} == {
        path: routes[path] for path in described
    }
    for word in ("/v1/audio/embeddings", "response_format", "session.update"):
        assert word in client.get("/docs").text


def test_an_unknown_route_is_an_error_in_json(client: TestClient) -> None:
    refused(client.get("/v2"), 404, "not_found")
    refused(client.get(EMOTIONS), 405, "method_not_allowed")


def test_a_failure_says_nothing_of_itself(
    service: Service, wav: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*given: object, **named: object) -> None:
        raise RuntimeError("a secret of this machine")

    monkeypatch.setattr(service.recogniser, "rows", fail)
    with caplog.at_level(logging.CRITICAL):
        answer = post(TestClient(routed(service, None), raise_server_exceptions=False), wav)
    refused(answer, 500, "internal_error")
    assert "secret" not in answer.text


def names_below(folder: Path) -> list[str]:
    """Returns the names, with a suffix, of files below a folder, of which some may vanish meanwhile."""
    return [name for _, _, names in os.walk(folder) for name in names if Path(name).suffix]


def test_an_upload_that_stops_leaves_no_file(recogniser: Recogniser, wav: Path, temporary: Path) -> None:
    part = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
    head = HEAD + b"Content-Length: 500000\r\n\r\n" + part
    with serving(recogniser, Limits(idle_seconds=0.5)) as service, running(service) as address:
        host, _, port = address.partition(":")
        with socket.create_connection((host, int(port)), 10) as cut:
            cut.sendall(head + wav.read_bytes())
            until(lambda: any(name.endswith(".wav") for name in names_below(temporary)))
        until(lambda: not names_below(temporary))
        with socket.create_connection((host, int(port)), 10) as slow:
            slow.sendall(head + wav.read_bytes()[:1000])
            answer = slow.recv(65_536)
        assert b" 408 " in answer.splitlines()[0]
        until(lambda: not names_below(temporary))


def test_connections_that_send_nothing_or_half_a_head_are_closed_and_others_are_answered(
    recogniser: Recogniser, wav: Path
) -> None:
    upload = HEAD + b"Content-Length: 5000\r\n\r\n--x"
    sent = [b"", b"GET /health HT", b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\nGET"]
    with (
        serving(recogniser, Limits(idle_seconds=1.5)) as service,
        running(service) as address,
        ExitStack() as held,
    ):
        host, _, port = address.partition(":")
        opened = [held.enter_context(socket.create_connection((host, int(port)), 10)) for _ in range(60)]
        for number, each in enumerate(opened):
            each.sendall([*sent, upload][number % 4])
        body = b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\n%s\r\n--x--\r\n' % wav.read_bytes()
        good = held.enter_context(socket.create_connection((host, int(port)), 10))
        good.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        assert good.recv(65_536)[9:12] == b"200"
        for number, each in enumerate(opened):
            found = b"".join(iter(lambda each=each: each.recv(65_536), b""))
            assert found[9:12] == (b"", b"", b"200", b"408")[number % 4]


def test_what_no_client_waits_for_is_not_computed(
    recogniser: Recogniser, wav: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, rows = [], recogniser.rows

    def counted(*given: Any, **named: Any) -> Iterator[Any]:
        for each in rows(*given, **named):
            seen.append(each)
            yield each

    monkeypatch.setattr(recogniser, "rows", counted)
    long = as_wav(np.tile(soundfile.read(wav, dtype="int16")[0], 40))
    begin = b"--x\r\nContent-Disposition: form-data; name="
    fields = b'"window"\r\n\r\n2\r\n' + begin + b'"file"; filename="a.wav"\r\n\r\n'
    body = begin + fields + long + b"\r\n--x--\r\n"
    with serving(recogniser) as service, running(service) as address:
        host, _, port = address.partition(":")
        with socket.create_connection((host, int(port)), 10) as gone:
            gone.sendall(HEAD + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
            until(lambda: seen)
        assert post(TestClient(routed(service, None)), wav).status_code == 200  # the only thread is free
        count = len(seen)
        time.sleep(1)
        assert len(seen) == count < 200  # windows, of 201 and one


def until(done: Any) -> None:
    for _ in range(1000):
        if done():
            return
        time.sleep(0.02)
    raise AssertionError("it did not happen within 20 s")
