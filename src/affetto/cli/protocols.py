"""``affetto protocols``: which protocols there are, and what one of them says."""

from typing import Annotated

import typer


def protocols(
    name: Annotated[
        str | None, typer.Argument(help="show this one, with published figures and caveats")
    ] = None,
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
