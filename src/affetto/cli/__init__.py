"""The command line: verbs by what they work on; every heavy import waits until a verb runs."""

import os
import sys
import warnings
from inspect import getdoc
from typing import Any

import typer
from typer.core import TyperGroup

from affetto._version import __version__
from affetto.cli import analyse, annotate, export, manifest
from affetto.cli.embed import embed, index, search
from affetto.cli.evaluate import demo, evaluate, experiment
from affetto.cli.examples import EXAMPLES
from affetto.cli.finetune import finetune
from affetto.cli.listings import corpora, protocols
from affetto.cli.merge import merge
from affetto.cli.options import option
from affetto.cli.predict import PredictCommand, predict
from affetto.cli.pretrain import pretrain
from affetto.cli.scan import scan
from affetto.cli.serve import serve

_PIPE_CLOSED = 141  # what a shell calls a program that wrote to a pipe that is closed
_STOPPED = 130  # and one that Ctrl-C ended


class _Verbs(TyperGroup):
    """Ends quietly where the reader of standard output, such as ``head``, has enough, and on Ctrl-C."""

    def invoke(self, ctx: Any) -> Any:
        """Runs the verb."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            # What is left in the buffer would fail again as the process ends, and not quietly.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(_PIPE_CLOSED)
        except KeyboardInterrupt as stop:
            typer.echo("; ".join(["stopped", *getattr(stop, "__notes__", ())[:1]]), err=True)
            sys.exit(_STOPPED)


app = typer.Typer(
    name="affetto",
    cls=_Verbs,
    help="\b\nExample: affetto predict recording.wav\n\n"
    "Recorded speech to emotion recognisers: scan, pretrain, finetune, evaluate, predict.",
    no_args_is_help=True,
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
for _later in (embed, merge, serve, index, search, experiment, demo, export.push):
    app.command()(_later)
_GROUPS = {"manifest": manifest.app, "annotate": annotate.app, "analyse": analyse.app, "export": export.app}
for _name, _group in _GROUPS.items():
    app.add_typer(_group, name=_name)
for _prefix, _typer in {"": app, **{f"{name} ": group for name, group in _GROUPS.items()}}.items():
    for _info in _typer.registered_commands:
        assert _info.callback is not None
        _text = getdoc(_info.callback) or ""
        _info.short_help = _text.partition("\n")[0]
        # A help opens with an example, whose lines stay as they are after the mark.
        _info.help = f"\b\nExample: {EXAMPLES[_prefix + _info.callback.__name__]}\n\n{_text}"
