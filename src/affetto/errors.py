"""The exceptions of affetto, and one helper that words an unknown name."""

from collections.abc import Iterable
from difflib import get_close_matches


class AffettoError(Exception):
    """Every error that affetto raises on purpose."""


class AudioError(AffettoError):
    """A recording cannot be read, or holds nothing that can be used."""


class ManifestError(AffettoError):
    """A manifest lacks a column, repeats a key, or names a file outside its root."""


class ProtocolError(AffettoError):
    """A protocol is unknown, or does not fit the manifest it is applied to."""


class LeakError(AffettoError):
    """A number would rest on speakers or labels that the recogniser had already seen."""


class ConfigError(AffettoError):
    """A setting is unknown, of the wrong type, or out of range."""


class CheckpointError(AffettoError):
    """A folder of weights is damaged, partial, or of another kind."""


class RunError(AffettoError):
    """A run folder is in use, unfinished, or belongs to another configuration."""


class MissingPackageError(AffettoError):
    """An optional package is needed and not installed."""


def unknown(kind: str, got: object, allowed: Iterable[object]) -> str:
    """Returns ``"unknown KIND 'GOT'; allowed: A, B, C; did you mean 'B'?"``."""
    names = [str(name) for name in allowed]
    message = f"unknown {kind} {str(got)!r}; allowed: {', '.join(names) or '(none)'}"
    close = get_close_matches(str(got), names, n=1)
    return f"{message}; did you mean {close[0]!r}?" if close else message


def some(names: Iterable[object], most: int = 8) -> str:
    """Returns the first few names of a list, sorted, and how many more there are."""
    listed = sorted({str(name) for name in names})
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + more
