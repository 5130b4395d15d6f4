"""Forms with files, written to disk in pieces as they come, and removed however the request ends."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory, mkdtemp
from typing import IO, Any

from filelock import FileLock, Timeout
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from affetto.media import AUDIO, MEDIA, forget_waves
from affetto.serving.limits import Limits, Refusal, invalid

_OVERHEAD = 100_000  # bytes of a form that are neither files nor fields
_FILE = "file"
_FOLDERS, _LOCK = "affetto-uploads-", "lock"


@dataclass
class Upload:
    """A file that a client sent: what the client calls it, and where it is."""

    name: str
    path: Path
    size: int = 0


@dataclass
class Form:
    """What a client sent: files, and fields as text."""

    files: list[Upload] = field(default_factory=list)
    fields: dict[str, str] = field(default_factory=dict)


@asynccontextmanager
async def received(request: Request, limits: Limits, allowed: set[str]) -> AsyncIterator[Form]:
    """Receives a form with files in the field ``file`` and no fields but the ``allowed``; yields it."""
    kind, options = parse_options_header(request.headers.get("content-type"))
    if kind != b"multipart/form-data" or not options.get(b"boundary"):
        raise Refusal(415, "unsupported_media_type", "the body must be a form, multipart/form-data")
    length = request.headers.get("content-length", "")
    most = limits.upload_bytes + limits.field_bytes + _OVERHEAD
    if length.isdecimal() and int(length) > most:
        raise _too_large(limits)
    own, _ = _folder()
    own.mkdir(exist_ok=True)  # some systems remove what is old in the folder for temporary files
    with TemporaryDirectory(dir=own, ignore_cleanup_errors=True) as folder:
        reader = _Reader(Path(folder), limits, allowed)
        try:
            parser = MultipartParser(options[b"boundary"], reader.callbacks)
            try:
                async with asyncio.timeout(limits.upload_seconds):
                    async for piece in pieces(request, limits.idle_seconds):
                        parser.write(piece)
            except TimeoutError as error:
                raise Refusal(408, "upload_timeout", "the upload took too long; send it again") from error
            except FormParserError as error:
                raise invalid("the form is damaged; send it again") from error
            if not reader.ended:
                raise invalid("the form ends before its last part does; send it again")
        finally:
            reader.close()
        try:
            yield reader.form
        finally:
            forget_waves()


@cache
def _folder() -> tuple[Path, FileLock]:
    """Makes a folder for the uploads of this process; those of servers that were killed are removed."""
    folder = Path(mkdtemp(prefix=_FOLDERS))
    held = FileLock(folder / _LOCK)
    held.acquire()
    for left in folder.parent.glob(f"{_FOLDERS}*"):
        with suppress(OSError, Timeout):  # in use
            if not left.is_symlink() and left.stat().st_uid == folder.stat().st_uid:
                with FileLock(left / _LOCK, timeout=0):
                    shutil.rmtree(left)
    return folder, held


def forget_folder() -> None:
    """Removes the folder for uploads, as a server ends; what is in use stays."""
    if _folder.cache_info().currsize:
        folder, held = _folder()
        _folder.cache_clear()
        held.release()
        (folder / _LOCK).unlink(missing_ok=True)
        with suppress(OSError):
            folder.rmdir()


async def pieces(request: Request, idle_seconds: float) -> AsyncIterator[bytes]:
    """Yields the body as it comes; a TimeoutError when nothing comes for a while."""
    while True:
        message = await asyncio.wait_for(request.receive(), idle_seconds)
        if message["type"] != "http.request":
            raise ClientDisconnect
        if body := message.get("body"):
            yield body
        if not message.get("more_body", False):
            return


def _too_large(limits: Limits) -> Refusal:
    megabytes = limits.upload_bytes // 1_000_000
    return Refusal(413, "too_large", f"the upload is larger than {megabytes} MB; send less, or in parts")


class _Reader:
    """Writes the files of a form to a folder while its parts are parsed."""

    def __init__(self, folder: Path, limits: Limits, allowed: set[str]) -> None:
        self.form, self.ended = Form(), False
        self._folder, self._limits, self._allowed = folder, limits, allowed
        self._header, self._value, self._disposition = b"", b"", b""
        self._field, self._texts = "", dict[str, bytearray]()
        self._handle: IO[bytes] | None = None
        names = "part_begin part_data part_end header_field header_value header_end headers_finished end"
        self.callbacks: Any = {f"on_{name}": getattr(self, f"_{name}") for name in names.split()}

    def close(self) -> None:
        """Closes the file that is being written."""
        if self._handle:
            self._handle.close()
        self._handle = None

    def _part_begin(self) -> None:
        self._disposition = b""

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = self._value
        self._header = self._value = b""

    def _headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        self._field = options.get(b"name", b"").decode("utf-8", "replace")
        if self._field == _FILE:
            if len(self.form.files) == self._limits.files:
                raise invalid(f"got more than {self._limits.files} files; send fewer")
            # Of the client's name, only a known suffix is used on this machine.
            name = PurePosixPath(
                options.get(b"filename", b"").decode("utf-8", "replace").replace("\\", "/")
            ).name
            suffix = PurePosixPath(name).suffix.lower()
            path = self._folder / f"{len(self.form.files)}{suffix if suffix in AUDIO | MEDIA else ''}"
            self.form.files.append(Upload(name[:200] or "the upload", path))
            self._handle = path.open("wb")
        elif self._field not in self._allowed:
            raise invalid(
                f"unknown field {self._field!r}; allowed: {', '.join(sorted({_FILE, *self._allowed}))}"
            )
        elif self._field in self._texts:
            raise invalid(f"got the field {self._field!r} twice; send it once")
        else:
            self._texts[self._field] = bytearray()

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        if self._handle:
            self._handle.write(data[start:end])
            self.form.files[-1].size += end - start
            if sum(upload.size for upload in self.form.files) > self._limits.upload_bytes:
                raise _too_large(self._limits)
            return
        self._texts[self._field] += data[start:end]
        if sum(map(len, self._texts.values())) > self._limits.field_bytes:
            raise Refusal(413, "too_large", f"the fields hold more than {self._limits.field_bytes:,} bytes")

    def _part_end(self) -> None:
        self.close()

    def _end(self) -> None:
        self.ended = True
        try:
            self.form.fields = {name: text.decode() for name, text in self._texts.items()}
        except UnicodeDecodeError as error:
            raise invalid("a field is not UTF-8") from error
