"""The program: its verbs in the order of its help, and what it does with errors.

A verb calls one public function. What it needs is imported inside it: `mien read` must not wait for torch, nor
`--help` for ONNX Runtime.
"""

import os
import sys
import warnings
from io import TextIOWrapper
from typing import Annotated

import typer

from mien.cli.about import doctor, models, recipes
from mien.cli.console import fail
from mien.cli.data import data_audit, data_import
from mien.cli.evaluate import evaluate, predict
from mien.cli.export import export
from mien.cli.label import label
from mien.cli.read import read
from mien.cli.serve import serve
from mien.cli.train import train
from mien.cli.watch import watch
from mien.errors import InputError, MienError, MissingExtra, NotFound

app = typer.Typer(
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["--help", "-h"]},
)
data_app = typer.Typer(help="Data sets: import, audit.", no_args_is_help=True)
app.add_typer(data_app, name="data")
for verb in (read, watch, label, serve, models, recipes, doctor, evaluate, predict, train, export):
    app.command()(verb)
data_app.command("import")(data_import)
data_app.command("audit")(data_audit)


def _version(wanted: bool | None) -> None:
    if wanted:
        from importlib.metadata import version

        sys.stdout.write(f"mien {version('mien')}\n")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool | None, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = None,
) -> None:
    """Reads facial expressions in photos and videos, and trains, measures and exports the networks that do.

    --debug, anywhere in a line, shows the traceback of an error.
    """


def main() -> None:
    """Run the command line; errors are one line and an exit code, a traceback only with --debug."""
    debug = "--debug" in sys.argv
    sys.argv = [argument for argument in sys.argv if argument != "--debug"]
    warnings.showwarning = lambda message, *rest, **named: fail(str(message))
    if isinstance(sys.stdout, TextIOWrapper):  # characters that the terminal's encoding lacks are no reason to stop
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        try:
            app()
        except MienError as error:
            if debug:
                raise
            fail(str(error))
            raise SystemExit(2 if isinstance(error, InputError | NotFound | MissingExtra) else 1) from error
        finally:
            sys.stdout.flush()  # a full disk or a closed pipe shows here at the latest
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except OSError as error:
        if debug:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else it shows again as the interpreter ends
        if not isinstance(error, BrokenPipeError):  # whoever closed the pipe knows
            fail(": ".join(map(str, filter(None, ("input or output failed", error.strerror, error.filename)))))
        raise SystemExit(1) from error
