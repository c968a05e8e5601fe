"""What all commands have in common: help without types of Python, --quiet and --verbose."""

from typing import Annotated, Any

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

from elman.io.terminal import Verbosity, set_verbosity, verbosity


def _set_verbosity(level: Verbosity) -> Any:
    def set_level(wanted: bool) -> None:
        if wanted and verbosity() not in (Verbosity.NORMAL, level):
            raise typer.BadParameter("expected either --quiet or --verbose, got both")
        if wanted:
            set_verbosity(level)

    return set_level


def _verbosity_options(
    quiet: Annotated[
        bool,
        typer.Option(
            "--quiet", "-q", help="Print results only.", callback=_set_verbosity(Verbosity.QUIET), expose_value=False
        ),
    ] = False,
    verbose: Annotated[
        bool,
        typer.Option(
            "--verbose", "-v", help="Print details.", callback=_set_verbosity(Verbosity.VERBOSE), expose_value=False
        ),
    ] = False,
) -> None:
    """The options of every command and group."""


_only = typer.Typer(add_completion=False)
_only.command()(_verbosity_options)
_VERBOSITY = typer.main.get_command(_only).params


class _Common:
    """A command or group with --quiet and --verbose, whose help has no types beside flags and arguments."""

    def get_params(self, ctx: Any) -> list[Any]:
        """The parameters."""
        *own, help_option = super().get_params(ctx)  # type: ignore[misc]
        found: list[Any] = [*own, *_VERBOSITY, help_option]
        for one in found:
            if isinstance(one, TyperArgument) or (isinstance(one, TyperOption) and one.is_flag):
                one.display_type_rich = lambda ctx: None  # type: ignore[method-assign]
        return found


class Command(_Common, TyperCommand):
    """For `command(cls=...)` of typer."""


class Group(_Common, TyperGroup):
    """For `Typer(cls=...)`."""

    def list_commands(self, ctx: Any) -> list[str]:
        """What has commands of its own first."""
        return sorted(super().list_commands(ctx), key=lambda name: not isinstance(self.commands[name], TyperGroup))
