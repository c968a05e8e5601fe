"""The help of the commands: what options take is named by them, and no types of Python are."""

from typing import Any

from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption


class _Plain:
    """A command or a group of these whose help has no types beside flags and arguments."""

    def get_params(self, ctx: Any) -> list[Any]:
        """As of every command."""
        found: list[Any] = super().get_params(ctx)  # type: ignore[misc]
        for one in found:
            if isinstance(one, TyperArgument) or (isinstance(one, TyperOption) and one.is_flag):
                one.display_type_rich = lambda ctx: None  # type: ignore[method-assign]
        return found


class Command(_Plain, TyperCommand):
    """For `command(cls=...)` of typer."""


class Group(_Plain, TyperGroup):
    """For `Typer(cls=...)`."""

    def list_commands(self, ctx: Any) -> list[str]:
        """What has commands of its own first."""
        return sorted(super().list_commands(ctx), key=lambda name: not isinstance(self.commands[name], TyperGroup))
