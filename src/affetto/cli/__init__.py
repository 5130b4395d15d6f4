"""The command line: verbs by what they work on; every heavy import waits until a verb runs."""

import warnings

import typer

from affetto._version import __version__
from affetto.cli import analyse, annotate, export, manifest
from affetto.cli.embed import embed, index, search
from affetto.cli.evaluate import demo, evaluate, experiment
from affetto.cli.finetune import finetune
from affetto.cli.listings import corpora, protocols
from affetto.cli.options import option
from affetto.cli.predict import PredictCommand, predict
from affetto.cli.pretrain import pretrain
from affetto.cli.scan import scan
from affetto.cli.serve import serve

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
    version: bool = option(False, "Print the version.", "--version", callback=_version, is_eager=True),
) -> None:
    warnings.formatwarning = lambda message, *_, **__: f"warning: {message}\n"


for _verb in (corpora, scan, pretrain, protocols, finetune, evaluate):
    app.command()(_verb)
app.command(cls=PredictCommand)(predict)
for _later in (embed, serve, index, search, experiment, demo, export.push):
    app.command()(_later)
app.add_typer(manifest.app, name="manifest")
app.add_typer(annotate.app, name="annotate")
app.add_typer(analyse.app, name="analyse")
app.add_typer(export.app, name="export")
