"""``python -m affetto`` and the ``affetto`` command."""

import sys
from contextlib import suppress

from affetto.errors import AffettoError


def main() -> None:
    """Runs the command line; an error of ours ends as one line on stderr and exit code 2."""
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
