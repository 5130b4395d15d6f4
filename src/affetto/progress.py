"""One progress bar with an ETA, silent outside a terminal."""

import sys
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from operator import length_hint
from typing import TypeVar

Item = TypeVar("Item")


def progress(items: Iterable[Item], description: str, total: int | None = None) -> Iterator[Item]:
    """Yields the items and shows how many of ``total``, or ``len(items)``, are done.

    The bar, which is a thread, starts after the first item: what is copied for the items is copied before.
    """
    if not sys.stderr.isatty():
        yield from items
        return
    from rich.console import Console
    from rich.progress import track

    total = total or length_hint(items) or None
    rest = iter(items)
    first = list(islice(rest, 1))
    yield from track(chain(first, rest), description, total, console=Console(stderr=True), transient=True)
