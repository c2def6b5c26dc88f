"""`mien serve`: the page and the REST API."""

import os
import signal
import sys
from typing import Annotated

import typer
from rich.text import Text

from mien.cli.console import Model, Views, fail, out
from mien.errors import InputError, need_extra


def serve(
    host: Annotated[str, typer.Option("--host", help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes a free one.")] = 8000,
    model: Model = "mien-small",
    views: Views = "single",
    token: Annotated[
        str | None, typer.Option("--token", envvar="MIEN_TOKEN", help="What clients must show (Authorization: Bearer).")
    ] = None,
    max_body: Annotated[float, typer.Option("--max-body", min=0.001, help="Largest request, in MB.")] = 20,
    max_pixels: Annotated[float, typer.Option("--max-pixels", min=0.001, help="Largest image, in MP, up to 178.")] = 50,
    max_images: Annotated[int, typer.Option("--max-images", min=1, help="Most images in a request.")] = 64,
    max_waiting: Annotated[int, typer.Option("--max-waiting", min=0, help="Most requests at once.")] = 128,
    max_streams: Annotated[int, typer.Option("--max-streams", min=0, help="Most live streams at once.")] = 8,
    timeout: Annotated[float, typer.Option("--timeout", min=0.001, help="Longest time for a request, in s.")] = 30,
    allow_host: Annotated[
        list[str] | None, typer.Option("--allow-host", help="A further name under which the server is reached.")
    ] = None,
    allow_origin: Annotated[
        list[str] | None, typer.Option("--allow-origin", help="A page that may use the API: https://example.org")
    ] = None,
) -> None:
    """A page and a REST API on this machine: http://127.0.0.1:8000"""
    needed = ("fastapi", "uvicorn", "python_multipart", "websockets", "prometheus_client", "scipy")
    need_extra("web", "serving", *needed)
    from mien.reading.images import MOST_PIXELS
    from mien.reading.recognizer import load_model
    from mien.web.app import create_app
    from mien.web.gate import check_names
    from mien.web.limits import Limits
    from mien.web.server import listen, make_server

    for option, value in (("--max-body", max_body), ("--max-pixels", max_pixels), ("--timeout", timeout)):
        most = MOST_PIXELS // 1e6 if option == "--max-pixels" else 1e6
        if value > most:  # inf, above all
            raise InputError(f"{option} takes a number up to {most:,.0f}, but got {value:g}")
    limits = Limits(body=int(max_body * 1e6), pixels=int(max_pixels * 1e6), images=max_images, waiting=max_waiting,
                    streams=max_streams, seconds=timeout)
    check_names(allow_host or (), allow_origin or ())
    if not host:
        raise InputError("--host is empty; give it an address of this machine, such as 127.0.0.1 or 0.0.0.0")
    if token == "" or (token is None and os.environ.get("MIEN_TOKEN") == ""):  # Click takes no notice of the latter
        raise InputError("the token of --token or MIEN_TOKEN is empty: give one, or leave both away to serve without")
    if token and not (token.isascii() and token.isprintable() and token == token.strip()):
        raise InputError("--token should be printable ASCII without spaces at its ends, or headers cannot carry it")
    recognizer = load_model(model, views=views)
    listener = listen(host, port)
    address = f"[{host}]" if ":" in host else host
    if not token and host not in {"127.0.0.1", "localhost", "::1"}:
        fail(f"warning: whoever reaches {address} may use this server; give it a --token, or set MIEN_TOKEN")
    web = create_app(recognizer, limits=limits, token=token, hosts=[host, *(allow_host or ())],
                     origins=allow_origin or ())
    url = f"http://{address}:{listener.getsockname()[1]}"
    told = Text(f"mien is at {url}  (API: {url}/docs; Ctrl+C ends it)")
    server = make_server(web, limits, lambda: out.print(told, soft_wrap=True))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # uvicorn raises it again when all is done: that is a success
    server.run(sockets=[listener])
