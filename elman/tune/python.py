"""`elman.tune.search`: checks the arguments of the call in Python."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from elman.data.examples import files_in
from elman.options import checked
from elman.report import tables
from elman.tasks.api import in_python
from elman.tasks.registry import TASKS, options_of_base
from elman.tune.options import TuneOptions
from elman.tune.result import Tuned
from elman.tune.run import prepare, run


def search(
    task: str,
    data: Any,
    out: "str | os.PathLike[str] | None",
    trials: int,
    timeout: float | str | None,
    space: Mapping[str, Any] | None,
    prune: bool,
    ray: str | None,
    fixed: Mapping[str, Any],
) -> Tuned:
    """Search, as `elman.tune.search` documents it."""
    name = "elman.tune.search"
    if task not in TASKS:
        raise ValueError(f"{name}: task: expected one of {', '.join(TASKS)}; got {task!r:.60}")
    if not isinstance(space, Mapping | None):
        raise TypeError(f"{name}: space: expected a dict of options, got {type(space).__name__}")
    texts = None if space is None else [f"{option}={_text(values)}" for option, values in space.items()]
    values = {"trials": trials, "timeout": timeout, "space": texts, "prune": prune, "ray": ray}
    options = checked(TuneOptions, name, values)
    console = tables.console(stderr=True, quiet=not sys.stderr.isatty())
    with in_python():
        fixed = options_of_base(task, fixed.get("init_from")) | dict(fixed)
        return run(prepare(task, files_in(data), fixed, options, None if out is None else Path(out)), console)


def _text(values: Any) -> str:
    """Return the values of an option as on the command line."""
    return values if isinstance(values, str) else ",".join(map(str, values))
