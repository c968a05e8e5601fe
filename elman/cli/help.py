"""Base classes of all commands: --quiet and --verbose, and help without redundant types."""

import signal
from typing import Annotated, Any

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

from elman.errors import Terminated
from elman.io.names import perhaps
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
    """Declare the options of every command and group."""


_only = typer.Typer(add_completion=False)
_only.command()(_verbosity_options)
_VERBOSITY = typer.main.get_command(_only).params


class _Common:
    """Command or group with --quiet and --verbose, whose help shows no types for flags and arguments."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return all parameters, with those for the verbosity before --help."""
        *parameters, help_option = super().get_params(ctx)  # type: ignore[misc]
        all_parameters: list[Any] = [*parameters, *_VERBOSITY, help_option]
        for parameter in all_parameters:
            if isinstance(parameter, TyperArgument) or (isinstance(parameter, TyperOption) and parameter.is_flag):
                parameter.display_type_rich = lambda ctx: None  # type: ignore[method-assign]
        return all_parameters


class Command(_Common, TyperCommand):
    """Command class for typer's `command(cls=...)`."""


class Group(_Common, TyperGroup):
    """Group class for `Typer(cls=...)`."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the command names, with groups first."""
        return sorted(super().list_commands(ctx), key=lambda name: not isinstance(self.commands[name], TyperGroup))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the command; for an unknown name, name all commands."""
        if args and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            names = self.list_commands(ctx)
            hint = "; if another package has this task, install it" if self.name == "train" else ""
            ctx.fail(f"expected one of {', '.join(names)}; got {args[0]!r}{perhaps(args[0], names) or hint}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run the command; raise `Terminated` for Ctrl-C, of which typer would keep the exit code alone."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise Terminated(signal.SIGINT) from None
