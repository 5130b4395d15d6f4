"""Streams over a WebSocket: sound comes in, results go out, and nothing is lost without a message."""

import asyncio
import json
import uuid
from collections import deque
from concurrent.futures import Future
from typing import Any

import numpy as np
from starlette.websockets import WebSocket, WebSocketDisconnect

from affetto.audio import SAMPLE_RATE, from_int16
from affetto.inference import Enrolment
from affetto.inference.sources import Windows, stream_cutter, window_clip
from affetto.serving.answers import entry, speaker_of, windows_of
from affetto.serving.jobs import Job
from affetto.serving.limits import Refusal, invalid
from affetto.serving.service import Service

PROTOCOL = "affetto"
_NORMAL, _POLICY, _FAILED, _LATER = 1000, 1008, 1011, 1013
_SETTINGS = {"window": 2.0, "hop": 1.0, "speaker": None, "classes": None}


async def listen(service: Service, socket: WebSocket) -> None:
    """Serves one session."""
    await socket.accept(PROTOCOL if PROTOCOL in socket.scope.get("subprotocols", []) else None)
    session = Session(service, socket)
    if service.sessions >= service.limits.sessions:
        await session.end(Refusal(429, "too_many_sessions", "no more sessions now; try again later"), _LATER)
        return
    service.sessions += 1
    try:
        await session.run()
    except WebSocketDisconnect:
        pass
    finally:
        service.sessions -= 1
        session.drop()


class Session:
    """One stream: its settings, the windows that wait for an answer, and how much sound has come."""

    def __init__(self, service: Service, socket: WebSocket) -> None:
        self.service, self.socket, self.id = service, socket, uuid.uuid4().hex
        self.settings: dict[str, Any] = dict(_SETTINGS)
        self._windows, self._recogniser = Windows(2.0, 1.0), service.recogniser
        self._enrolment: Enrolment | None = None
        self._cutter = stream_cutter(self._windows)
        self._samples = 0
        self._waiting: deque[tuple[int, int, Future[Any]]] = deque()
        self._changed = asyncio.Event()  # a window more, or an answer
        self._over = False  # no window follows

    async def run(self) -> None:
        """Runs the session until its client ends it, or is gone."""
        limits = self.service.limits
        await self._send(
            "session.created",
            session=self._described(),
            limits={
                "frame_bytes": limits.frame_bytes,
                "session_ms": round(1000 * limits.seconds),
                "behind_ms": round(1000 * limits.behind_seconds),
                "silent_ms": round(1000 * limits.silent_seconds),
            },
        )
        answering = asyncio.ensure_future(self._answer())
        listening = asyncio.ensure_future(self._listen())
        try:
            await asyncio.wait((answering, listening), return_when=asyncio.FIRST_COMPLETED)
            if answering.done():
                answering.result()
            refusal = await listening
            self._over = True
            self._changed.set()
            await answering
        except WebSocketDisconnect:
            raise
        except Exception:  # the log of the jobs says which
            await self.end(Refusal(500, "internal_error", "a window could not be computed"), _FAILED)
        else:
            await self.end(refusal, _POLICY if refusal else _NORMAL)
        finally:
            answering.cancel()
            listening.cancel()
            await asyncio.gather(answering, listening, return_exceptions=True)

    async def end(self, refusal: Refusal | None, code: int) -> None:
        """Says why the session ends, and closes the socket."""
        if refusal:
            await self._send("error", **refusal.body, fatal=True)
        await self._send(
            "session.closed", audio_ms=_ms(self._samples), reason=refusal.code if refusal else "ended"
        )
        await self.socket.close(code)

    def drop(self) -> None:
        """Lets go of windows that no client waits for."""
        for _, _, future in self._waiting:
            future.cancel()

    async def _listen(self) -> Refusal | None:
        """Takes messages until the client ends the session; returns the reason where it is not the client."""
        limits = self.service.limits
        while True:
            try:
                message = await asyncio.wait_for(self.socket.receive(), limits.silent_seconds)
            except TimeoutError:
                return Refusal(408, "silent", f"nothing came for {limits.silent_seconds:g} s")
            if message["type"] != "websocket.receive":
                raise WebSocketDisconnect
            try:
                if (data := message.get("bytes")) is not None:
                    await self._frame(data)
                elif await self._ended(message.get("text") or ""):
                    return None
            except Refusal as refusal:
                if refusal.code == "too_long":
                    return refusal
                await self._send("error", **refusal.body, fatal=False)

    async def _frame(self, data: bytes) -> None:
        limits = self.service.limits
        if len(data) > limits.frame_bytes:
            most = f"{len(data):,} bytes; at most {limits.frame_bytes:,}"
            raise Refusal(413, "message_too_large", f"the frame was not used: it has {most} are taken")
        if not data or len(data) % 2:
            raise Refusal(
                422,
                "invalid_audio_frame",
                f"the frame was not used: it has {len(data)} bytes; samples of 2 bytes, s16le, are needed",
            )
        samples = from_int16(np.frombuffer(data, "<i2"))
        self._samples += len(samples)
        for begin, window in self._cutter.push(samples):
            self._compute(begin, window)
        if self._samples >= limits.seconds * SAMPLE_RATE:
            self._compute_rest()
            raise Refusal(
                413, "too_long", f"a session has at most {limits.seconds / 60:.0f} minutes of sound"
            )
        if self._lag() > limits.behind_seconds:
            await self._send("session.behind", behind_ms=round(1000 * self._lag()))
            while self._lag() > limits.behind_seconds / 2:
                self._changed.clear()
                await self._changed.wait()
            await self._send("session.caught_up")

    async def _ended(self, text: str) -> bool:
        """Does what a message in text asks for; returns whether that is the end."""
        try:
            message = json.loads(text)
            kind = message["type"]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise Refusal(
                422,
                "invalid_audio_frame",
                "got text where a frame is expected; sound is sent as binary, and text is "
                '{"type": "session.update"} or {"type": "session.end"}',
            ) from error
        if kind == "session.end":
            self._compute_rest()
            return True
        if kind != "session.update":
            raise invalid(f"unknown type {str(kind)[:50]!r}; allowed: session.update, session.end")
        if self._samples:
            raise Refusal(422, "session_update_late", "settings are taken before the first frame only")
        asked = message.get("session")
        if not isinstance(asked, dict) or set(asked) - set(_SETTINGS):
            raise invalid(f"session.update needs a session with any of {', '.join(_SETTINGS)}")
        settings = self.settings | asked
        windows = windows_of(settings, self.service.limits)
        if windows.length is None:
            raise invalid("a session needs a window")
        recogniser = self.service.answering(settings["classes"])
        self._enrolment = speaker_of(settings["speaker"], self.service.speakers)
        self._windows, self._cutter, self.settings = windows, stream_cutter(windows), settings
        self._recogniser = recogniser
        await self._send("session.updated", session=self._described())
        return False

    def _lag(self) -> float:
        """Returns about how many seconds of sound wait for an answer."""
        return len(self._waiting) * self._windows.step

    def _compute(self, begin: int, samples: Any) -> None:
        speaker = self.id if self._enrolment else None
        clip = window_clip(begin, samples, speaker)
        known = {self.id: self._enrolment} if self._enrolment else {}
        seconds = len(samples) / SAMPLE_RATE
        whole = Windows(self.service.limits.window_seconds[1])
        job = Job(self._recogniser, [clip], whole, seconds, known)
        self._waiting.append((begin, begin + len(samples), self.service.jobs.submit(job, urgent=True)))
        self._changed.set()

    def _compute_rest(self) -> None:
        for begin, window in self._cutter.rest():
            self._compute(begin, window)

    async def _answer(self) -> None:
        """Sends the results in their order."""
        while True:
            while not self._waiting:
                if self._over:
                    return
                self._changed.clear()
                await self._changed.wait()
            begin, end, future = self._waiting[0]
            (row,) = await asyncio.wrap_future(future)
            result = entry(row, self._recogniser.format)
            for name in ("start", "end", "speaker"):
                result.pop(name, None)
            await self._send("result", audio_start_ms=_ms(begin), audio_end_ms=_ms(end), **result)
            self._waiting.popleft()
            self._changed.set()

    def _described(self) -> dict[str, Any]:
        form = {"rate": SAMPLE_RATE, "format": "pcm_s16le", "channels": 1}
        return {"id": self.id, **form, **self.settings, "model": self.service.described}

    async def _send(self, kind: str, **content: Any) -> None:
        try:
            await self.socket.send_json({"type": kind, **content})
        except RuntimeError as error:  # starlette's, where the socket was closed meanwhile
            raise WebSocketDisconnect from error


def _ms(samples: int) -> float:
    return round(1000 * samples / SAMPLE_RATE, 3)
