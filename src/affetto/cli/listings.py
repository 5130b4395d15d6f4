"""``affetto corpora`` and ``affetto protocols``: what goes by a name, and what is known of it."""

from textwrap import indent

import typer


def corpora(name: str | None = typer.Argument(None, help="show this one alone")) -> None:
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


def protocols(
    name: str | None = typer.Argument(None, help="show this one, with published figures and caveats"),
) -> None:
    """List the protocols, or show one."""
    from affetto.protocols import list_protocols, load_protocol
    from affetto.protocols.protocol import PAIR

    if name is not None:
        typer.echo(load_protocol(name).describe())
        return
    known = {each: load_protocol(each).description for each in list_protocols()}
    known[PAIR] = "learn from one corpus, test on another: crema-d-to-ravdess"
    for each, description in known.items():
        typer.echo(f"{each.ljust(max(map(len, known)))}  {description}")
