"""The commands that train a trial again and that go on with a search, as texts for a shell."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from elman.io.format import shell_path
from elman.options import PARTS, flag
from elman.training.options import TrainingOptions
from elman.tune.space import Space, description, option_text


def train_command(
    task: str, module: ModuleType, data: Any, values: Mapping[str, Any], out: Path | None = None
) -> str | None:
    """Return the command that trains with these options; None if the data are not files.

    Args:
        task: the name of the task.
        module: the module of the task's options.
        data: the data.
        values: options by name.
        out: the run folder; None: the default.
    """
    return _command(f"elman train {task}", module, data, values, {"out": out})


def tune_command(
    task: str, module: ModuleType, data: Any, fixed: Mapping[str, Any], space: Space, others: Mapping[str, Any]
) -> str | None:
    """Return the command that goes on with a search; None if the data are not files.

    Args:
        task: the name of the task.
        module: the module of the task's options.
        data: the data.
        fixed: options that all trials have in common.
        space: what is searched.
        others: further options of the search by name; None, and defaults, are left out.
    """
    texts = " ".join(f"{name}={values}" for name, values in description(space).items())
    return _command(f"elman tune {task}", module, data, fixed, {"space": texts, **others})


def _command(
    beginning: str, module: ModuleType, data: Any, values: Mapping[str, Any], others: Mapping[str, Any]
) -> str | None:
    files = _files(data)
    if files is None or any(_files(values.get(part)) is None for part in PARTS):
        return None
    names = [*module.OPTIONS.model_fields, *TrainingOptions.model_fields]
    ordered = {name: values[name] for name in names if name in values}
    words = [beginning, *map(shell_path, files)]
    for name, value in {**ordered, **others}.items():
        words.extend(_words(flag(name), value))
    return " ".join(words)


def _files(data: Any) -> Sequence[Path] | None:
    """Return data as paths; None if they are something else."""
    paths = [] if data is None else data if isinstance(data, list | tuple) else [data]
    return [Path(path) for path in paths] if all(isinstance(path, str | Path) for path in paths) else None


def _words(option: str, value: Any) -> Iterator[str]:
    """Yield the words of an option."""
    if value is None or value is False:
        return
    if value is True:
        yield option
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _words(option, item)
    else:
        word = shlex.quote(option_text(value))
        yield f"{option}={word}" if word.startswith("-") else f"{option} {word}"
