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
    known = [load_protocol(each) for each in list_protocols()]
    width = max(len(protocol.name) for protocol in known)
    for protocol in known:
        typer.echo(f"{protocol.name.ljust(width)}  {protocol.description}")
    typer.echo(f"{PAIR.ljust(width)}  learn from one corpus, test on another: crema-d-to-ravdess")
