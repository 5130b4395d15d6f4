"""``python -m affetto`` and the ``affetto`` command."""

import sys

from affetto.errors import AffettoError


def main() -> None:
    """Runs the command line; an error of ours ends as one line on stderr and exit code 2."""
    from affetto.cli import app

    try:
        app(prog_name="affetto")
    except AffettoError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
