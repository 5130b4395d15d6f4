"""The run folder: settings, environment, metrics, atomic writes, the DONE mark."""

import fcntl
import json
import os
import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO, Any

from affetto.config import Settings, build, dump, read
from affetto.errors import ConfigError, RunError

METRICS = "metrics.jsonl"
PACKAGES = ("affetto", "torch", "numpy", "pandas", "scikit-learn", "scipy", "soundfile", "soxr", "accelerate")


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside ``path`` and puts it in place only when the block succeeds.

    A crash, a kill or a full disk leaves the old file, or none, and never half of one.

    Raises:
        RunError: when the file cannot be written, e.g. on a full disk.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with open(temporary, "rb") as handle:
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        with suppress(OSError):  # what went wrong has been said already
            temporary.unlink(missing_ok=True)


def _unwritable(path: Path, error: OSError) -> RunError:
    return RunError(
        f"cannot write {path}: {error.strerror or error}; make room there, or name another folder"
    )


def write_text(path: Path, text: str) -> None:
    """Writes a text file atomically."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def lock(handle: IO[Any], path: Path) -> None:
    """Locks an open file for this process and its copies, until it is closed by all.

    Args:
        handle: the file.
        path: what it stands for.

    Raises:
        RunError: when another process holds it, and still does after a second: the copies of a process that
            was killed end only after it.
    """
    until = time.monotonic() + 1
    while True:
        try:
            return fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() > until:
                raise RunError(f"another process is writing {path}; wait for it, or name another") from error
        time.sleep(0.02)


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON file atomically, two spaces deep."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def environment(**facts: Any) -> dict[str, Any]:
    """Returns package versions and the kind of processor, with any further facts; no host name."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    return {
        "python": platform.python_version(),
        "system": platform.system(),
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "packages": versions,
        **facts,
    }


def _says(written: Path, settings: Settings, text: str) -> bool:
    """Whether a ``config.yaml`` means these settings; what it lacks came later and was as the default is."""
    if written.read_text(encoding="utf-8") == text:
        return True
    try:
        return build(type(settings), read(written)) == settings
    except ConfigError:
        return False


class RunFolder:
    """A folder that one verb writes: what was asked, in what environment, and what came out.

    Args:
        path: the folder; made when missing.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    @property
    def done(self) -> bool:
        """Whether the verb finished here."""
        return (self.path / "DONE").exists()

    def start(self, settings: Settings, **facts: Any) -> bool:
        """Prepares the folder.

        Args:
            settings: the full settings of the verb.
            facts: what else ``env.json`` should hold, e.g. seed and manifest hash.

        Returns:
            False when the same work already finished here, so that there is nothing to do; True to go on.

        Raises:
            RunError: when the folder holds another configuration, or other files.
        """
        text = dump(settings)
        written = self.path / "config.yaml"
        if written.exists() and not _says(written, settings, text) and self._begun():
            raise RunError(
                f"{self.path} was made with other settings (see its config.yaml); "
                "name another folder with -o, or remove this one"
            )
        if not written.exists() and self.path.exists() and any(self.path.iterdir()):
            raise RunError(
                f"{self.path} holds files that no run of affetto wrote; name another folder with -o"
            )
        if self.done:
            self._same_facts(facts)
            return False
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _unwritable(self.path, error) from error
        if (self.path / "env.json").exists() and self._begun():
            self._same_facts(facts)
        write_text(written, text)
        write_json(self.path / "env.json", environment(**facts))
        return True

    def _begun(self) -> bool:
        """Whether there is more than what was asked for: a run that was refused at once left no more."""
        files = (path.name for path in self.path.rglob("*") if path.is_file())
        return any(name not in ("config.yaml", "env.json") for name in files)

    def _same_facts(self, facts: Mapping[str, Any]) -> None:
        before = json.loads((self.path / "env.json").read_text(encoding="utf-8"))
        for name, value in facts.items():
            if before.get(name) != value:
                raise RunError(
                    f"{self.path} was made with {name} {before.get(name)!r}, now it is {value!r}; "
                    "name another folder with -o, or remove this one"
                )

    def log(self, **values: Any) -> None:
        """Appends one line to ``metrics.jsonl``.

        Raises:
            RunError: when it cannot be written, e.g. on a full disk.
        """
        file = self.path / METRICS
        try:
            with open(file, "a", encoding="utf-8") as handle:
                handle.write(json.dumps(values) + "\n")
        except OSError as error:
            raise _unwritable(file, error) from error

    def rewrite_log(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Puts rows in place of what ``metrics.jsonl`` holds; a resumed run drops what it will do again."""
        write_text(self.path / METRICS, "".join(json.dumps(row) + "\n" for row in rows))

    def finish(self) -> None:
        """Leaves the DONE mark; call it last."""
        write_text(self.path / "DONE", "")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Holds the folder for this process, so that two runs cannot write it at once.

        Raises:
            RunError: when another process holds it, or nothing can be written there.
        """
        beside = self.path.with_name(f".{self.path.name}.lock")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            opened = open(beside, "w", encoding="utf-8")  # noqa: SIM115  (closed below)
        except OSError as error:
            raise _unwritable(self.path, error) from error
        with opened as handle:
            lock(handle, self.path)
            yield
