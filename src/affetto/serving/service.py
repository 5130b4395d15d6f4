"""The recogniser, the speakers that are enrolled, and what each route does with them."""

import asyncio
import re
from dataclasses import replace
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from affetto.audio import AudioInfo
from affetto.errors import AudioError, ConfigError, unknown
from affetto.inference import Enrolment, Recogniser
from affetto.inference.annotations import render
from affetto.inference.sources import PART_SECONDS, Windows
from affetto.media import limit_seconds
from affetto.serving.answers import (
    FORMATS,
    answering,
    clips_of,
    entry,
    one_file,
    probe_upload,
    speaker_of,
    unreadable,
    windows_of,
)
from affetto.serving.jobs import Job, Jobs, Room
from affetto.serving.limits import Limits, Refusal, invalid
from affetto.serving.uploads import Upload, received
from affetto.tables import Row

_NAME = re.compile(r"[\w .@-]{1,64}")
_FIELDS = {"response_format", "window", "hop", "classes", "segments", "speaker", "model"}


class Service:
    """Answers requests by a recogniser, called ``name``, in ``workers`` threads."""

    def __init__(self, recogniser: Recogniser, name: str, workers: int, limits: Limits | None = None) -> None:
        self.recogniser, self.name, self.limits = recogniser, name, limits or Limits()
        self.space = f"sha256:{recogniser.sha256}"
        limit_seconds(self.limits.seconds)
        self.jobs = Jobs(workers)
        self.speakers: dict[str, Enrolment] = {}
        self.sessions = 0
        self._fitted: dict[tuple[str, ...], Recogniser] = {}
        self._room = Room(self.limits)

    @property
    def described(self) -> dict[str, Any]:
        """What a client may know of the recogniser."""
        own = self.recogniser
        known = {"id": self.name, "object": "model", "labels": own.labels, "space": self.space}
        can = bool(own.classifier.settings.enrolment)
        return {**known, "enrolment": can, "made_from": own.config.get("made_from")}

    async def models(self, request: Request) -> Response:
        """Lists the recogniser."""
        return JSONResponse({"object": "list", "data": [self.described]})

    async def emotions(self, request: Request) -> Response:
        """Predicts a recording."""
        with self._room:
            async with received(request, self.limits, _FIELDS) as form:
                fields, upload = form.fields, one_file(form)
                kind = fields.get("response_format") or "json"
                if kind not in FORMATS:
                    raise invalid(unknown("response_format", kind[:50], FORMATS))
                self._right_model(fields)
                windows = windows_of(fields, self.limits)
                recogniser = self.answering(fields.get("classes"))
                whole, own = fields.get("speaker"), speaker_of(fields.get("speaker"), self.speakers)
                info = await self._probed(upload)
                clips = clips_of(upload, fields.get("segments"), info, self.limits)
                # Others may send the same names at the same time.
                voices = [whole or clip.voice for clip in clips]
                clips = [
                    replace(clip, speaker=f"{id(upload)} {voice}", voice=voice)
                    for clip, voice in zip(clips, voices, strict=True)
                ]
                enrolments = {
                    str(clip.speaker): each
                    for clip in clips
                    if (each := own or self.speakers.get(clip.voice or ""))
                }
                job = Job(recogniser, clips, windows, info.duration_seconds, enrolments)
                rows = await self._computed(request, job, upload)
        if not any(row["speaker"] for row in rows):
            for row in rows:
                del row["speaker"]
        return self._as_asked(kind, rows, recogniser, info, windows)

    async def embeddings(self, request: Request) -> Response:
        """Returns the vector that the recogniser reads emotions from, of a recording."""
        with self._room:
            async with received(request, self.limits, {"model"}) as form:
                upload = one_file(form)
                self._right_model(form.fields)
                info = await self._probed(upload)
                job = Job(
                    self.recogniser, [], Windows(), call=lambda: self.recogniser.embed([upload.path]).tolist()
                )
                vectors = await self._computed(request, job, upload)
        starts = [PART_SECONDS * number for number in range(len(vectors))]
        ends = [*starts[1:], info.duration_seconds]
        data = [
            {"object": "embedding", "index": index, "start": start, "end": end, "embedding": vector}
            for index, (start, end, vector) in enumerate(zip(starts, ends, vectors, strict=True))
        ]
        return JSONResponse({"object": "list", "model": self.name, "space": self.space, "data": data})

    async def list_speakers(self, request: Request) -> Response:
        """Lists the speakers that are enrolled."""
        return JSONResponse({"object": "list", "data": [self._shown(name) for name in sorted(self.speakers)]})

    async def show_speaker(self, request: Request) -> Response:
        """Shows one speaker."""
        return JSONResponse(self._shown(self._named(request)))

    async def enrol_speaker(self, request: Request) -> Response:
        """Enrols a speaker, or again, from utterances; keeps a few numbers, and no sound."""
        name = request.path_params["name"]
        if not _NAME.fullmatch(name):
            raise invalid("a speaker's name has 1 to 64 letters, digits, spaces or any of _.@-")
        if name not in self.speakers and len(self.speakers) >= self.limits.speakers:
            raise invalid(f"{self.limits.speakers} speakers are enrolled; delete one first")
        with self._room:
            async with received(request, self.limits, set()) as form:
                if not form.files:
                    raise invalid("got no file in the field 'file'; send utterances of the speaker")
                for upload in form.files:
                    await self._probed(upload)
                paths = [upload.path for upload in form.files]
                job = Job(self.recogniser, [], Windows(), call=lambda: self.recogniser.enrol(paths))
                self.speakers[name] = await self._computed(request, job, *form.files)
        return JSONResponse(self._shown(name), 201)

    async def forget_speaker(self, request: Request) -> Response:
        """Deletes a speaker."""
        del self.speakers[self._named(request)]
        return Response(status_code=204)

    def _named(self, request: Request) -> str:
        name = str(request.path_params["name"])
        if name not in self.speakers:
            raise Refusal(404, "not_found", f"no speaker is enrolled as {name[:100]!r}")
        return name

    def _shown(self, name: str) -> dict[str, Any]:
        return {"id": name, "object": "speaker", "utterances": self.speakers[name].utterances}

    def _right_model(self, fields: dict[str, str]) -> None:
        if fields.get("model", self.name) != self.name:
            raise invalid(unknown("model", fields["model"][:50], [self.name]))

    async def _probed(self, upload: Upload) -> AudioInfo:
        if not upload.size:
            raise Refusal(422, "empty_file", f"{upload.name}: the file is empty (0 bytes)")
        return await asyncio.to_thread(probe_upload, upload, self.limits)

    async def _computed(self, request: Request, job: Job, *uploads: Upload) -> Any:
        """Returns what a job gives; drops one whose client has gone."""
        result = asyncio.wrap_future(self.jobs.submit(job))
        gone = asyncio.ensure_future(request.receive())
        try:
            await asyncio.wait((result, gone), return_when=asyncio.FIRST_COMPLETED)
            if not result.done():
                raise ClientDisconnect
            found = result.result()
            errors = [row["error"] for row in found if row["error"]] if job.clips else []
        except AudioError as error:
            errors = [str(error)]
        except ConfigError as error:
            raise invalid(str(error)) from error
        finally:
            gone.cancel()
            if not result.done():
                job.abandoned = True
                result.cancel()
        if errors:
            for upload in uploads:
                if str(upload.path) in errors[0]:
                    raise unreadable(errors[0], upload)
            raise unreadable(errors[0], uploads[0])
        return found

    def answering(self, classes: Any) -> Recogniser:
        """Returns the recogniser for some classes: the same for the same ones, so that they go together."""
        found = answering(self.recogniser, classes)
        if len(found.labels) == len(self.recogniser.labels):
            return self.recogniser
        if len(self._fitted) > 100:
            self._fitted.clear()
        return self._fitted.setdefault(tuple(found.labels), found)

    def _as_asked(
        self, kind: str, rows: list[Row], recogniser: Recogniser, info: AudioInfo, windows: Windows
    ) -> Response:
        if not kind.endswith("json"):
            try:
                text = render(kind, rows, recogniser.labels)
            except ConfigError as error:
                raise invalid(str(error)) from error
            return Response(text, media_type=FORMATS[kind])
        verbose = kind == "verbose_json"
        answer: dict[str, Any] = {"model": self.name}
        if verbose:
            answer |= {"space": self.space, "labels": recogniser.labels, "file": rows[0]["file"]}
            answer |= {"duration": info.duration_seconds, "window": windows.length}
            answer["hop"] = windows.step if windows.length else None
        return JSONResponse(answer | {"segments": [entry(row, recogniser.format, verbose) for row in rows]})
