"""One progress bar with an ETA, silent where nobody watches a terminal."""

import sys
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

Item = TypeVar("Item")


def progress(items: Iterable[Item], description: str, total: int | None = None) -> Iterator[Item]:
    """Yields the items and shows how far along they are.

    Args:
        items: what is being worked through.
        description: what is being done, e.g. ``"decode"``.
        total: how many items there are; None to ask ``len(items)`` where it has one.
    """
    if not sys.stderr.isatty():
        yield from items
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        if total is None and isinstance(items, Sized):
            total = len(items)
        task = bar.add_task(description, total=total)
        for item in items:
            yield item
            bar.advance(task)
