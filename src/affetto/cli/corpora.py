"""``affetto corpora``: which corpora ``scan`` knows, and how to come by them."""

from textwrap import indent
from typing import Annotated

import typer


def corpora(
    name: Annotated[str | None, typer.Argument(help="show this one alone")] = None,
) -> None:
    """List the corpora that scan knows: licence, size, classes, how to obtain, how the folder must look."""
    from affetto.corpora import CORPORA
    from affetto.corpora.catalogue import CATALOGUE
    from affetto.errors import ManifestError, unknown

    if name is not None and name not in CORPORA:
        raise ManifestError(unknown("corpus", name, CORPORA))
    for key, about in CATALOGUE.items():
        if name in (None, key):
            facts = {
                "language": about.language,
                "size": about.size,
                "emotions": about.classes or "none labelled; for pretraining",
                "licence": about.licence,
                "obtain": about.obtain,
            }
            typer.echo(f"{key}  {about.title}")
            for kind, value in facts.items():
                typer.echo(f"  {kind.ljust(9)} {value}")
            typer.echo(f"  folder\n{indent(about.layout, '    ')}\n")
    for key in ("table", "toy"):
        if name in (None, key):
            typer.echo(f"{key}  {CORPORA[key]}")
