"""``python -m affetto`` and the ``affetto`` command."""

import os
import signal
import sys
from contextlib import suppress
from typing import Any

from affetto.errors import AffettoError

_STOPPED = 130  # what a shell calls a program that Ctrl-C ended


def main() -> None:
    """Runs the command line; an error of ours ends as one line on stderr and exit code 2."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else the shell wants it ignored
        signal.signal(signal.SIGINT, _interrupt)
    try:
        _run()
    except KeyboardInterrupt:  # before a verb began
        sys.exit(_STOPPED)


def _interrupt(*_: Any) -> None:
    """Ends the verb; a second Ctrl-C ends the process at once."""
    signal.signal(signal.SIGINT, lambda *_: os._exit(_STOPPED))
    raise KeyboardInterrupt


def _run() -> None:
    from affetto.cli import app

    with suppress(AttributeError):  # a name of a file that a pipe on Windows cannot hold must not end a verb
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        app(prog_name="affetto")
    except AffettoError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
