"""The program: its verbs in the order of its help, and what it does with errors.

A verb calls one public function. What it needs is imported inside it: `mien read` must not wait for torch, nor
`--help` for ONNX Runtime.
"""

import os
import signal
import sys
import warnings
from collections.abc import Sequence
from io import TextIOWrapper
from typing import Annotated, Any

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


def _leave(number: int, _: Any) -> None:
    """End so that what was opened is closed and tidied up, and other processes are stopped."""
    sys.exit(128 + number)


def _need_whole(arguments: Sequence[str]) -> None:
    """Refuse an empty argument: as a path it would be the folder one stands in."""
    if "" in arguments[1:]:
        before = arguments[arguments.index("", 1) - 1]
        raise InputError(f"the argument after {before!r} is empty, expected something there; is a variable not set?")


def main() -> None:
    """Run the command line; errors are one line and an exit code, a traceback only with --debug."""
    for number in (signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):
        if signal.getsignal(number) == signal.SIG_DFL:  # under nohup a closed terminal is no reason to stop
            signal.signal(number, _leave)
    debug = "--debug" in sys.argv
    sys.argv = [argument for argument in sys.argv if argument != "--debug"]
    warnings.showwarning = lambda message, *rest, **named: fail(str(message))
    if isinstance(sys.stdout, TextIOWrapper):  # characters that the terminal's encoding lacks are no reason to stop
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        try:
            _need_whole(sys.argv)
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
