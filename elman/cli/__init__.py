"""The command line interface: registers the commands, and turns exceptions into messages and exit codes."""

import io
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer
from typer.exceptions import TyperException
from typer.main import get_command

import elman
from elman.cli import task_commands
from elman.cli.bench import bench
from elman.cli.draw import draw
from elman.cli.env import env
from elman.cli.explain import explain
from elman.cli.export import export
from elman.cli.help import Command, Group
from elman.cli.serve import serve
from elman.cli.train import train as train_command
from elman.cli.tune import tune as tune_command
from elman.errors import BadInput, Failure, MissingPackage, Terminated, is_out_of_memory, os_failure
from elman.extras import needs
from elman.io.terminal import Verbosity, guarded, leave_closed_terminal, terminating_signals, verbosity
from elman.options import AsJson, RunFolder
from elman.tasks.registry import TASKS

app = typer.Typer(
    cls=Group,
    help="Recurrent neural networks: train, use and inspect them.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
train = typer.Typer(cls=Group, help="Train a model.", no_args_is_help=True)
tune = typer.Typer(cls=Group, help="Search for the best options of a training.", no_args_is_help=True)
app.add_typer(train, name="train")
app.add_typer(tune, name="tune")
for _task in TASKS:
    train.command(_task, cls=Command)(train_command(_task))
    tune.command(_task, cls=Command)(tune_command(_task))
for _command in (*task_commands.COMMANDS, serve, export, draw, bench, explain, env):
    app.command(cls=Command)(_command)


@app.command(cls=Command)
def info(run: RunFolder, as_json: AsJson = False) -> None:
    """Describe a run: data, model, training, scores."""
    from elman.io.run_folder import open_run

    opened = open_run(run)
    if as_json:
        from elman.report import as_json as report

        print(report.text(report.describe(opened)))
    else:
        from elman.report import tables

        tables.describe(opened, tables.console())


@app.command(cls=Command)
def report(
    run: RunFolder,
    out: Annotated[
        Path | None, typer.Option(help="Output file.", metavar="FILE", show_default="RUN/report.html")
    ] = None,
) -> None:
    """Write a report of a run: curves, scores, samples, gradient flow. One HTML file, no network."""
    from elman.io.run_folder import open_run
    from elman.report import page
    from elman.tasks import inspection

    opened = open_run(run)
    path = page.target(opened, out)
    page.write(opened, inspection.show(opened), path)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"elman {elman.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", help="Print the version.", callback=_version)] = False,
) -> None:
    pass


def run(arguments: list[str]) -> int:
    """Run a command.

    Args:
        arguments: the command line arguments, without the program name.

    Returns:
        The exit code: 0; 1 if the command failed; 2 for bad input or usage; 129 after SIGHUP; 130 after Ctrl-C; 143
        after SIGTERM.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # characters that the encoding lacks become ?
    with guarded(), _terminable():
        try:
            return _code(arguments)
        except KeyboardInterrupt:  # also while it prints the message of another exception
            return _fail("elman: interrupted", 130)
        except Terminated as error:
            verb = "interrupted" if error.signal == signal.SIGINT else "terminated"
            return _fail(f"elman: {verb}", 128 + error.signal)


@cache
def _root_command() -> Callable[..., Any]:
    """Return the command of `app`, which takes a tenth of a second to make."""
    return get_command(app)


def _code(arguments: list[str]) -> int:
    """Run a command; print the message of an exception in one line and return its exit code."""
    try:
        with needs("train", "this command"):
            code = _root_command()(arguments, prog_name="elman", standalone_mode=False)
    except TyperException as error:
        message = error.format_message()
        command = context.command_path if (context := getattr(error, "ctx", None)) else "elman"
        return _fail(f"{command}: {message}") if message else 2
    except MissingPackage as error:
        return _fail(f"elman: {error}")
    except (BadInput, Failure) as error:
        return _fail(f"elman: {error}", _code_of(error))
    except BrokenPipeError:  # the reader has closed the pipe, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        _print_traceback()
        failure = os_failure(error, f"elman: {error.filename or 'writing'}: {error.strerror or error}")
        return _fail(str(failure), _code_of(failure))
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        _print_traceback()
        reason = f" ({str(error).splitlines()[0]})" if str(error) else ""
        return _fail(f"elman: not enough memory{reason}; use smaller data, smaller layers or a smaller --batch", 1)
    return int(code or 0)


def _print_traceback() -> None:
    if verbosity() >= Verbosity.VERBOSE:
        traceback.print_exc()


def _code_of(error: BadInput | Failure) -> int:
    return 2 if isinstance(error, BadInput) else 1


@contextmanager
def _terminable() -> Iterator[None]:
    """Raise `Terminated` on SIGTERM or SIGHUP within the context, so that the command can clean up."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def terminate(number: int, frame: FrameType | None) -> None:
        leave_closed_terminal(number)
        raise Terminated(number)

    previous = {number: signal.signal(number, terminate) for number in terminating_signals()}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _fail(message: str, code: int = 2) -> int:
    """Print a message in one line on standard error; return the exit code."""
    print(" ".join(message.split()), file=sys.stderr)
    return code
