"""``affetto corpora``: which corpora ``scan`` knows, and where to get them."""

from textwrap import indent
from typing import Annotated

import typer


def corpora(name: Annotated[str | None, typer.Argument(help="show this one alone")] = None) -> None:
    """List the corpora that scan knows: licence, size, classes, how to obtain, how the folder must look."""
    from affetto.corpora import known_corpora
    from affetto.errors import ManifestError, unknown

    known = known_corpora()
    if name is not None and name not in known:
        raise ManifestError(unknown("corpus", name, known))
    for about in (corpus.about for corpus in known.values() if name in (None, corpus.about.name)):
        typer.echo(f"{about.name}  {about.title}")
        if not about.layout:
            continue
        facts = {
            "language": about.language,
            "size": about.size,
            "emotions": about.classes or "none labelled; for pretraining",
            "licence": about.licence,
            "obtain": about.obtain,
        }
        for kind, value in facts.items():
            typer.echo(f"  {kind.ljust(9)} {value}")
        typer.echo(f"  folder\n{indent(about.layout, '    ')}\n")
