"""Requests and sockets for ``affetto serve`` as bytes, damaged, and what a client of them sees."""

import asyncio
import io
import json
import re
import struct
from collections.abc import Sequence

import soundfile
from changes import Change, changed, sound

BOUNDARY = b"----affetto"
_HEAD = b"Host: 127.0.0.1\r\nConnection: close\r\n"
UPGRADE = (
    b"GET /v1/audio/emotions/stream HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n"
    b"Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
TEXT, BINARY, CLOSE, PING = 1, 2, 8, 9


def wav() -> bytes:
    """Returns a short recording."""
    buffer = io.BytesIO()
    soundfile.write(buffer, sound(0.5), 16_000, format="WAV")
    return buffer.getvalue()


def form(content: bytes, **fields: str) -> bytes:
    """Returns the body of a form with a file."""
    parts = [b'name="%s"\r\n\r\n%s' % (name.encode(), value.encode()) for name, value in fields.items()]
    parts.append(b'name="file"; filename="a.wav"\r\nContent-Type: audio/wav\r\n\r\n' + content)
    lines = (b"--%s\r\nContent-Disposition: form-data; %s\r\n" % (BOUNDARY, part) for part in parts)
    return b"".join(lines) + b"--%s--\r\n" % BOUNDARY


def request(method: str, path: str, body: bytes = b"") -> bytes:
    """Returns a whole request."""
    head = b"%s %s HTTP/1.1\r\n" % (method.encode(), path.encode()) + _HEAD
    if body:
        head += b"Content-Type: multipart/form-data; boundary=%s\r\nContent-Length: %d\r\n" % (
            BOUNDARY,
            len(body),
        )
    return head + b"\r\n" + body


SEGMENTS = json.dumps([{"start": 0, "end": 0.2, "speaker": "Ann"}, {"start": 0.2, "end": 0.5}])
FIELDS = (
    {"response_format": "verbose_json", "window": "0.2", "hop": "0.1"},
    {"segments": SEGMENTS, "response_format": "vtt", "classes": "anger,fear"},
    {"segments": "start,end,speaker\n0,0.5,Ann\n", "response_format": "csv"},
    {"response_format": "textgrid", "speaker": "Ann", "model": "small"},
)
POSTS = [("/v1/audio/emotions", form(wav(), **fields)) for fields in FIELDS]
POSTS += [(path, form(wav())) for path in ("/v1/audio/embeddings", "/v1/speakers/Ann", "/v1/audio/emotions")]
ASKED = ("/", "/docs", "/openapi.json", "/health", "/v1/models", "/v1/speakers", "/v1/speakers/Ann")
OTHERS = [request("GET", path) for path in ASKED] + [request("DELETE", "/v1/speakers/Ann"), UPGRADE]


def damaged_request(which: int, whole_length: bool, done: Sequence[Change]) -> bytes:
    """Returns a request after changes; with ``whole_length`` its body alone, of which the head is true."""
    path, body = POSTS[which % len(POSTS)]
    if whole_length:
        return request("POST", path, changed(body, done, POSTS[0][1]) or b"x")
    both = [request("POST", *each) for each in POSTS] + OTHERS
    return changed(both[which % len(both)], done, both[0])


def frame(kind: int, payload: bytes) -> bytes:
    """Returns a message of a client in one frame, whose mask is zero."""
    size = len(payload)
    short = bytes([0x80 | size]) if size < 126 else struct.pack(">BH", 0xFE, size)
    return (
        bytes([0x80 | kind])
        + (short if size < 1 << 16 else struct.pack(">BQ", 0xFF, size))
        + bytes(4)
        + payload
    )


UPDATE = json.dumps(
    {"type": "session.update", "session": {"window": 0.2, "hop": 0.1, "classes": ["anger", "fear"]}}
)
END = b'{"type": "session.end"}'
PCM = (sound(0.25) * 32767).astype("<i2").tobytes()


def damaged_session(which: int, done: Sequence[Change]) -> bytes:
    """Returns what a client sends in an open session, after changes of one message, or of all bytes."""
    messages = [(TEXT, UPDATE.encode()), (BINARY, PCM), (PING, b""), (BINARY, PCM[:99]), (TEXT, END)]
    place = which % (len(messages) + 1)
    if place < len(messages):
        kind, payload = messages[place]
        messages[place] = (kind, changed(payload, done, PCM))
    if which // 8 % 3 == 0:
        messages.insert(which // 24 % len(messages), (CLOSE, b"\x03\xe8"))
    sent = b"".join(frame(*each) for each in messages)
    return sent if place < len(messages) else changed(sent, done, PCM)


def statuses(answer: bytes) -> list[int]:
    """Returns the status of each answer in what a server sent."""
    return [int(each) for each in re.findall(rb"HTTP/1\.1 (\d{3}) ", answer)]


def exchanged(
    port: int, contents: Sequence[bytes], wait_seconds: float, session: bool = False
) -> list[bytes | None]:
    """Sends each content on a connection of its own, 64 at once; returns what came back on each.

    None stands for a connection that the server neither closed nor wrote to for ``wait_seconds``. In a
    ``session`` the content is sent once the socket is open.
    """

    async def everything() -> list[bytes | None]:
        free = asyncio.Semaphore(64)

        async def one(content: bytes) -> bytes | None:
            async with free:
                return await _exchanged(port, content, wait_seconds, session)

        return await asyncio.gather(*map(one, contents))

    return asyncio.run(everything())


async def _exchanged(port: int, content: bytes, wait_seconds: float, session: bool) -> bytes | None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    found = b""
    try:
        if session:
            writer.write(UPGRADE)
            found = await asyncio.wait_for(reader.read(1 << 16), wait_seconds)
        writer.write(content)
        # The server waits for a while for the client's end of a session.
        while b'"session.closed"' not in found:
            part = await asyncio.wait_for(reader.read(1 << 16), wait_seconds)
            if not part:
                break
            found += part
    except TimeoutError:
        return None
    except ConnectionError:
        pass
    finally:
        writer.close()
    return found
