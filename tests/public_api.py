"""The public names of elman with their parameters and defaults, and the commands with their options, one on a line.

    python -m tests.public_api    # records them in tests/public_api.txt

A line that disappears there is a promise that is broken: docs/promises.md.
"""

import enum
import inspect
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType
from typing import Any

import typer

from elman.cli import app
from tests.docstrings import public_methods, public_objects

RECORD = Path(__file__).with_name("public_api.txt")
KINDS: dict[Any, str] = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}


def public_api() -> list[str]:
    """Return a line for each public name, and for each command."""
    lines = {name: f"{name}{parameters(value)}" for name, value in public_objects().items()}
    for name, (cls, attribute) in public_methods().items():
        value = inspect.getattr_static(cls, attribute)
        function = getattr(value, "__func__", value)
        lines[name] = f"{name}{parameters(function) if isinstance(function, FunctionType) else ''}"
    return [*sorted(lines.values()), *sorted(commands(typer.main.get_command(app), "$ elman"))]


def parameters(value: Any) -> str:
    """Return the parameters of a function or class as Python writes them, without types."""
    parts, keyword_only = list[str](), False
    for name, parameter in inspect.signature(value).parameters.items():
        if parameter.kind is parameter.KEYWORD_ONLY and not keyword_only:
            keyword_only = True
            parts.append("*")
        default = "" if parameter.default is parameter.empty else f"={shown(parameter.default)}"
        parts.append(f"{KINDS.get(parameter.kind, '')}{name}{default}")
        keyword_only |= parameter.kind is parameter.VAR_POSITIONAL
    return f"({', '.join(parts)})"


def shown(default: Any) -> str:
    """Return a default value as text that is the same in every process and version of Python."""
    if isinstance(default, enum.Enum):
        return str(default.value)
    is_plain = isinstance(default, str | int | float | bool | tuple | None)
    return repr(default) if is_plain else type(default).__name__


def commands(command: Any, name: str) -> Iterator[str]:
    """Yield a line for a command, or for each of those below it, with its arguments, options and defaults."""
    if hasattr(command, "commands"):
        for word in command.list_commands(None):
            yield from commands(command.commands[word], f"{name} {word}")
        return
    parts = list[str]()
    for parameter in command.params:
        if parameter.param_type_name == "argument":
            parts.append(parameter.name.upper())
        else:
            names = "/".join((*parameter.opts, *parameter.secondary_opts))
            has_default = not callable(parameter.default) and parameter.default not in (None, False)
            parts.append(f"[{names}{f' {shown(parameter.default)}' if has_default else ''}]")
    yield " ".join((name, *parts))


if __name__ == "__main__":
    RECORD.write_text("\n".join(public_api()) + "\n", encoding="utf-8")
