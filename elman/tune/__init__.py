"""Hyperparameter search for any task: `elman tune` in Python.

>>> import elman, tempfile
>>> tuned = elman.tune.search("image", out=tempfile.mkdtemp(), trials=2, epochs=1, hidden=8)    # scikit-learn's digits
>>> sorted(tuned.trials[0])[:4]
['batch', 'cell', 'dropout', 'filters']
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from os import PathLike

    from elman.tune.result import Tuned

__all__ = ["Tuned", "search"]


def __getattr__(name: str) -> Any:
    if name == "Tuned":
        from elman.tune.result import Tuned

        return Tuned
    raise AttributeError(f"module 'elman.tune' has no attribute {name!r}")


def search(
    task: str,
    data: Any = None,
    out: "str | PathLike[str] | None" = None,
    *,
    trials: int = 20,
    timeout: "float | str | None" = None,
    space: "Mapping[str, Any] | None" = None,
    prune: bool = True,
    ray: str | None = None,
    **options: Any,
) -> "Tuned":
    """Search for the options with the lowest validation loss. Needs `pip install 'elman[tune]'`.

    Each trial trains a model, as `fit` of the task does, in a run folder of its own; Optuna's TPE sampler chooses its
    options. Call it again with the same folder to go on with a search. Progress is shown only on a terminal.

    Args:
        task: a name in `elman.tasks.TASKS`.
        data: as for `fit` of the task.
        out: the folder, new or that of an earlier call; None: runs/TASK-study.
        trials: number of trials, those of earlier calls included.
        timeout: seconds after which the search stops, or a text such as "10m"; None: no limit.
        space: options to search, with a range as on the command line ("1e-4..1e-1:log") or a list of values; None: the
            default space of the task.
        prune: stop a trial early if its best validation loss is above the median of complete trials at the same epoch.
        ray: address of a Ray cluster on which trials train in parallel, "auto", or "local"; None: one at a time, in
            this process. Needs `pip install 'elman[ray]'`.
        options: options of `fit` that all trials have in common: `epochs=10`.

    Returns:
        The trials, and the best of them.

    Raises:
        BadInput: for data that cannot be used; for a folder with something else.
        Failure: if no trial is complete.
        MissingPackage: without the packages of the extra `tune`, or with `ray`, `ray`.
        TypeError: for an unknown option.
        ValueError: for a value that an option cannot have, or an unknown task.

    >>> import elman, tempfile
    >>> tuned = elman.tune.search("image", out=tempfile.mkdtemp(), trials=2, space={"hidden": [4, 8]}, epochs=1)
    >>> tuned.command
    'elman train image --hidden 8 --epochs 1'
    >>> tuned.best.scores.keys() == tuned.best.run.config["scores"].keys()
    True
    """
    from elman.extras import needs

    with needs("tune", "elman.tune"):
        from elman.tune.python import search as search_python

        return search_python(task, data, out, trials, timeout, space, prune, ray, options)
