"""The run folder: settings, environment, metrics, atomic writes, the DONE mark."""

import json
import os
import platform
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from errno import ENOLCK, ENOSYS, ENOTSUP, EOPNOTSUPP
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from affetto.config import Settings, dump
from affetto.errors import RunError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

DONE = "DONE"
MANIFEST = "manifest.csv"
META = "meta.json"
METRICS = "metrics.jsonl"
FORMATS = (".csv", ".tsv", ".jsonl", ".parquet")  # of tables
STATE = "state.pt"  # the checkpoint of an unfinished training

_LOCK_SECONDS = 1  # the worker processes of a killed process end shortly after it
PACKAGES = ("affetto", "torch", "numpy", "pandas", "scikit-learn", "scipy", "soundfile", "soxr", "accelerate")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns an error of the file system into a RunError that names the path."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise RunError(f"cannot write {path}: {reason}; make room there, or name another folder") from error


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yields a temporary path that becomes ``path`` when the block succeeds: no crash leaves half a file.

    A second process that writes the same path waits. What a killed process left is written over.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary, held = _held(path)
        try:
            yield temporary
            with open(temporary, "rb+") as handle:  # Windows syncs only what may be written
                os.fsync(handle.fileno())
            os.replace(temporary, path)
        except BaseException:
            with suppress(OSError):  # the error above matters more
                temporary.unlink(missing_ok=True)
            raise
        finally:
            if held is not None:
                os.close(held)


def _held(path: Path) -> tuple[Path, int | None]:
    """Returns a temporary file next to a path that no other process writes, and the handle that locks it."""
    temporary = path.with_name(f".{path.name}.part")
    while fcntl is not None:
        handle = os.open(temporary, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError:  # a file system without locks
            os.close(handle)
            break
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(handle), os.stat(temporary)):
                return temporary, handle
        os.close(handle)  # the process that held it has put it in place
    return path.with_name(f".{path.name}.{os.getpid()}.part"), None


def write_text(path: Path, text: str) -> None:
    """Writes a text file atomically."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_json(path: Path) -> Any:
    """Reads a JSON file; raises OSError, and ValueError for what is no JSON."""
    return json.loads(path.read_text(encoding="utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON file atomically, two spaces deep."""
    with atomic_write(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        json.dump(value, file, indent=2, ensure_ascii=False)  # whose text is never in memory as a whole
        file.write("\n")


@contextmanager
def locked(path: Path, file: Path | None = None) -> Iterator[None]:
    """Holds a path for this process by a lock file, ``file`` or ``.NAME.lock`` next to it, or a RunError."""
    file = file or path.with_name(f".{path.name}.lock")
    with ExitStack() as stack:
        with writing(path):
            file.parent.mkdir(parents=True, exist_ok=True)
            try:
                stack.enter_context(lock(file, _LOCK_SECONDS))
            except Timeout as error:
                raise RunError(f"another process is writing {path}; wait for it, or name another") from error
        yield


@contextmanager
def lock(file: Path, seconds: float = -1) -> Iterator[None]:
    """Holds a lock file, waiting for so long, for ever with -1; without one where the disk has no locks."""
    with ExitStack() as stack:
        try:
            stack.enter_context(FileLock(file, timeout=seconds))
        except (OSError, NotImplementedError) as error:
            if getattr(error, "errno", ENOSYS) not in (ENOLCK, ENOTSUP, EOPNOTSUPP, ENOSYS):
                raise
            reason = getattr(error, "strerror", None) or error
            text = f"{file.parent} is on a disk without locks ({reason}); let one process alone write there"
            warnings.warn(text, stacklevel=2)
        yield


@contextmanager
def continued(path: Path) -> Iterator[None]:
    """Notes on a KeyboardInterrupt that the same command goes on in ``path``; the command line says so."""
    try:
        yield
    except KeyboardInterrupt as stop:
        stop.add_note(f"what is done is kept in {path}: the same command goes on from there")
        raise


def read_meta(folder: Path, kind: str) -> dict[str, Any]:
    """Reads ``meta.json`` of a run; a RunError names one that is unfinished, or of another verb."""
    if not (folder / DONE).exists():
        raise RunError(f"{folder} holds no finished run; run affetto {kind} with -o {folder} (again) first")
    content: dict[str, Any] = {}
    with suppress(FileNotFoundError):
        content = read_json(folder / META)
    if content.get("kind") != kind:
        raise RunError(
            f"{folder} holds a run of {content.get('kind', 'an unknown verb')}; allowed: a run of {kind}; "
            f"name one, or make it with affetto {kind}"
        )
    return content


def environment(**facts: Any) -> dict[str, Any]:
    """Returns package versions and the kind of processor, with any further facts; no host name."""
    versions = dict.fromkeys(PACKAGES, "not installed")
    for package in PACKAGES:
        with suppress(PackageNotFoundError):
            versions[package] = version(package)
    machine = {"system": platform.system(), "processor": platform.machine(), "cores": os.cpu_count()}
    return {"python": platform.python_version(), **machine, "packages": versions, **facts}


class RunFolder:
    """A folder that one verb writes: its settings, its environment, and its results.

    ``kind`` is the verb, e.g. ``finetune``, as ``meta.json`` records it; "" for a folder inside a run.
    """

    def __init__(self, path: str | Path, kind: str = "") -> None:
        self.path, self.kind = Path(path), kind

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    @property
    def done(self) -> bool:
        """Whether the verb finished here."""
        return (self.path / DONE).exists()

    def start(self, settings: Settings, **facts: Any) -> bool:
        """Makes the folder, or checks that it may be continued; returns False when it is finished.

        ``config.yaml`` holds the settings, ``env.json`` the versions and ``facts``, e.g. a manifest's hash.
        """
        text = dump(settings)
        written = self.path / "config.yaml"
        if written.exists() and written.read_text(encoding="utf-8") != text and self._begun():
            raise RunError(
                f"{self.path} was made with other settings (see its config.yaml); "
                "name another folder with -o, or remove this one"
            )
        if not written.exists() and self.path.exists() and self._begun():
            raise RunError(
                f"{self.path} holds files that no run of affetto wrote; name another folder with -o"
            )
        if self.done or ((self.path / "env.json").exists() and self._begun()):
            self._same_facts(facts)
        if self.done:
            return False
        with writing(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        write_text(written, text)
        write_json(self.path / "env.json", environment(**facts))
        return True

    def _begun(self) -> bool:
        """Whether there is more than the files of :meth:`start`, which a refused run leaves too."""
        own = {name for each in ("config.yaml", "env.json") for name in (each, f".{each}.part")}
        return any(path.name not in own for path in self.path.rglob("*") if path.is_file())

    def _same_facts(self, facts: Mapping[str, Any]) -> None:
        before = read_json(self.path / "env.json")
        for name, value in facts.items():
            if before.get(name) != value:
                raise RunError(
                    f"{self.path} was made with {name} {before.get(name)!r}, now it is {value!r}; "
                    "name another folder with -o, or remove this one"
                )

    def log(self, **values: Any) -> None:
        """Appends one line to ``metrics.jsonl``."""
        file = self.path / METRICS
        with writing(file), open(file, "a", encoding="utf-8") as handle:
            handle.write(json.dumps(values) + "\n")

    def rewrite_log(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Replaces the content of ``metrics.jsonl``; a resumed run drops what it will do again."""
        write_text(self.path / METRICS, "".join(json.dumps(row) + "\n" for row in rows))

    def finish(self, meta: Mapping[str, Any] | None = None) -> None:
        """Writes ``meta.json`` and the DONE mark, and removes checkpoints of training; call it last."""
        content = {"kind": self.kind, **(meta or {})} if self.kind else meta
        if content:
            write_json(self.path / META, content)
        if self.kind:  # a process may have been killed between the mark of a fold and what follows it
            for left in self.path.rglob(STATE):
                left.unlink()
        write_text(self.path / DONE, "")
        (self.path / STATE).unlink(missing_ok=True)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Holds the folder for this process; a RunError says when that is not possible."""
        with locked(self.path), continued(self.path):
            yield
