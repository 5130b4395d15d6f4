"""``affetto serve``: a recogniser over HTTP and WebSockets, and a page to try it."""

from contextlib import suppress

import typer

from affetto.cli.options import DEFAULT_MODEL, MODEL, named_or_small, option
from affetto.errors import MissingPackageError


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
