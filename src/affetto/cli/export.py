"""``affetto export``, ``push`` and ``serve``: recognisers for other programs, on the hub, and as a server."""

from contextlib import suppress
from pathlib import Path

import typer

from affetto.cli.options import DEFAULT_MODEL, MODEL, named_or_small, option
from affetto.errors import MissingPackageError

app = typer.Typer(help="Write recognisers for programs without affetto.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    pass


@app.command()
def onnx(
    recogniser: str = typer.Argument("small", help="small, base, a folder, or a hub id."),
    out: Path = option(..., "Folder to write.", "--out", "-o"),
    int8: bool = option(False, "Store the weights in 8 bits.", "--int8"),
    encoder: Path | None = option(None, "Folder of the model that base needs."),
) -> None:
    """Write a recogniser as an ONNX file: waveforms and their lengths to probabilities."""
    from affetto.export.onnx import MODEL, export_onnx

    made = export_onnx(recogniser, out, encoder=encoder, int8=int8)
    typer.echo(
        f"{made.folder / MODEL}: {made.megabytes:.1f} MB; its answers differ from torch's by at most "
        f"{made.difference:.1g}"
    )


def push(
    recogniser: str = typer.Argument(help="small, base, a run of finetune, a folder, or a hub id."),
    repository: str = typer.Argument(help="OWNER/NAME on the Hugging Face hub."),
    public: bool = option(False, "Let everybody see a repository that is made.", "--public"),
) -> None:
    """Upload a recogniser to the Hugging Face hub, with its model card and scores."""
    from affetto.export.hub import push_to_hub

    typer.echo(push_to_hub(recogniser, repository, public=public))


def serve(
    settings: list[str] | None = typer.Argument(
        None, help="encoder.model=FOLDER: the model that base needs."
    ),
    model: str | None = option(None, MODEL, "--model", "-m", shown=DEFAULT_MODEL),
    host: str = option("127.0.0.1", "Address to listen on; another than this machine's own needs a key."),
    port: int = option(8000, "Port to listen on; 0 for any that is free.", min=0, max=65535),
    api_key: str | None = typer.Option(
        None,
        envvar="AFFETTO_API_KEY",
        help="Key that clients send, Authorization: Bearer KEY. Others can see it in the list of processes; "
        "the environment hides it.",
    ),
    workers: int | None = option(None, "Threads that compute.", shown="one a core", min=1),
) -> None:
    """Serve emotions over HTTP and WebSockets, with a page at / for a browser.

    Nothing is stored: an upload is removed when it is answered, and enrolled speakers are held in memory.
    """
    try:
        from affetto.serving.run import serve as run_server
    except ImportError as error:
        raise MissingPackageError(
            f"affetto serve needs {error.name or 'more packages'}: pip install 'affetto[serve]'"
        ) from error
    from affetto.inference.loading import model_word

    name, encoder = named_or_small(model, "-m"), model_word(settings or [])
    with suppress(KeyboardInterrupt):
        run_server(
            name,
            encoder,
            host,
            port,
            api_key,
            workers,
            lambda address: typer.echo(f"serving {name} at {address}"),
        )
