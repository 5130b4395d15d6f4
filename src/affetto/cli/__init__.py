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
from affetto.cli.analyse import demo, evaluate, experiment
from affetto.cli.export import serve
from affetto.cli.finetune import finetune, pretrain
from affetto.cli.manifest import corpora, protocols, scan
from affetto.cli.options import option
from affetto.cli.predict import PredictCommand, embed, index, merge, predict, search

# The example with which the help of each verb opens; those on ``toy`` run where the first one has run.
EXAMPLES = {
    "scan": "affetto scan toy toy -o toy.csv --speakers 6 --takes 1",
    "corpora": "affetto corpora savee",
    "protocols": "affetto protocols crema-d-6-evar",
    "manifest describe": "affetto manifest describe toy.csv",
    "manifest validate": "affetto manifest validate toy.csv",
    "manifest relabel": "affetto manifest relabel toy.csv --map valence-sign -o sign.csv --drop",
    "manifest join": "affetto manifest join first.csv other.csv -o both.csv",
    "manifest pack": "affetto manifest pack toy.csv -o packed",
    "pretrain": "affetto pretrain --manifest toy.csv --groups text -o runs/pretrained",
    "finetune": "affetto finetune --manifest toy.csv --protocol speaker-kfold --encoder functionals "
    "--no-enrolment -o runs/svm",
    "evaluate": "affetto evaluate runs/svm",
    "predict": "affetto predict toy/f01/f01_s01_anger_t01.flac",
    "embed": "affetto embed toy/f01 toy/m01 --encoder functionals -o functionals.npy",
    "merge": "affetto merge parts/1.csv parts/2.csv -o predicted.csv",
    "serve": "affetto serve",
    "index": "affetto index toy -m runs/clap/recogniser -o index",
    "search": "affetto search 'a tired, sad voice' --index index --count 3",
    "experiment": "affetto experiment toy-heads.yaml --manifest toy.csv",
    "demo": "affetto demo",
    "push": "affetto push runs/svm jane/calls",
    "export onnx": "affetto export onnx small -o exported",
    "annotate speakers": "affetto annotate speakers toy.csv --encoder ge2e -o annotated/speakers",
    "annotate clusters": "affetto annotate clusters annotated/speakers/manifest.csv -o annotated/clusters",
    "annotate intensity": "affetto annotate intensity toy.csv --source loudness -o curves",
    "analyse clusters": "affetto analyse clusters annotated/clusters/manifest.csv -o analysis --map pca",
    "analyse layers": "affetto analyse layers toy.csv --encoder ge2e --protocol speaker-kfold -o layers",
}

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
