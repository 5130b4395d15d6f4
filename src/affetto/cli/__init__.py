"""The command line: one verb a file; every heavy import waits until a verb runs."""

from typing import Annotated

import typer

from affetto._version import __version__
from affetto.cli import analyse, annotate, manifest
from affetto.cli.corpora import corpora
from affetto.cli.demo import demo
from affetto.cli.embed import embed
from affetto.cli.evaluate import evaluate, experiment
from affetto.cli.finetune import finetune
from affetto.cli.predict import PredictCommand, predict
from affetto.cli.pretrain import pretrain
from affetto.cli.protocols import protocols
from affetto.cli.scan import scan
from affetto.cli.search import index, search

app = typer.Typer(
    name="affetto",
    help="Recorded speech to emotion recognisers: scan, pretrain, finetune, evaluate, predict.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"affetto {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


app.command()(corpora)
app.command()(scan)
app.add_typer(manifest.app, name="manifest")
app.add_typer(annotate.app, name="annotate")
app.add_typer(analyse.app, name="analyse")
app.command()(pretrain)
app.command()(protocols)
app.command()(finetune)
app.command()(evaluate)
app.command(cls=PredictCommand)(predict)
app.command()(embed)
app.command()(index)
app.command()(search)
app.command()(experiment)
app.command()(demo)
