"""`mecha hub serve`: a folder as a Hub for devices on the LAN."""

from pathlib import Path
from typing import Annotated

import typer

from mecha.errors import UsageError

_MOST_GB = 1_000_000

app = typer.Typer(
    help="Serve a folder as a Hub for devices on the LAN.",
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
)


@app.callback()
def hub() -> None:
    """Serve a folder as a Hub for devices on the LAN."""


@app.command()
def serve(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Holds owner/name/file and datasets/owner/name/file.")],
    host: Annotated[str, typer.Option("--host", help="Address to listen on; the default is this machine only.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port; 0 takes a free one.")] = 8090,
    token_file: Annotated[
        Path | None, typer.Option("--token-file", metavar="F", help="Ask for the token in this file (or MECHA_TOKEN).")
    ] = None,
    upstream: Annotated[
        str | None,
        typer.Option("--upstream", metavar="URL", help="Fetch what DIR lacks from this Hub, once, and keep it there."),
    ] = None,
    keep_gb: Annotated[
        float | None,
        typer.Option(
            "--keep-gb",
            metavar="GB",
            min=0,
            max=_MOST_GB,
            help="Of what is fetched, keep so much: the last asked for. All by default.",
        ),
    ] = None,
) -> None:
    """Serve DIR with the Hub's read API; point devices at it with HF_ENDPOINT."""
    import os

    from mecha.cli.context import current_project
    from mecha.hub.gateway import gateway
    from mecha.hub.mirror import serve_mirror
    from mecha.hub.token import read_token

    if keep_gb is not None and upstream is None:
        raise UsageError("--keep-gb: is for what is fetched, and there is no --upstream", hint="Add --upstream URL.")
    keep_bytes = None if keep_gb is None else int(keep_gb * 1e9)
    token = read_token(token_file, os.environ)

    def ready(endpoint: str) -> None:
        typer.echo(f"serving {folder} at {endpoint}" + ("  (token needed)" if token else ""))
        if upstream is not None:
            kept = "" if keep_gb is None else f", and {keep_gb:g} GB of it are kept"
            typer.echo(f"  what is not there is fetched from {upstream}, once{kept}")
        typer.echo(f"  on a device: HF_ENDPOINT={endpoint} mecha models pull NAME")

    asked = None
    if upstream:
        asked = gateway(folder, upstream, os.environ, current_project().settings.hub, keep_bytes=keep_bytes)
    serve_mirror(folder, host=host, port=port, token=token, on_ready=ready, gateway=asked)
