"""The classic uses of recurrent networks: `elman train TASK` in Python.

>>> import elman, tempfile
>>> reader = elman.tasks.image.fit(None, tempfile.mkdtemp(), epochs=1, hidden=8)      # scikit-learn's digits
>>> reader.predict([[[0.0] * 8] * 8])[0].keys()
dict_keys(['input', 'label', 'probability'])
>>> elman.tasks.load(reader.run).scores == reader.scores
True

A task is a package; docs/new_task.md shows how to write one, here or in a project of its own.
"""

from os import PathLike
from typing import TYPE_CHECKING, Any

from elman.extras import needs
from elman.tasks.registry import TASKS, module_of

if TYPE_CHECKING:
    from elman.tasks.api import Trained

__all__ = ["TASKS", "Trained", "from_hub", "load"]


def __getattr__(name: str) -> Any:
    if name in TASKS:
        with needs("tasks", "elman.tasks"):
            return module_of(name)
    if name == "Trained":
        from elman.tasks.api import Trained

        return Trained
    raise AttributeError(f"module 'elman.tasks' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *TASKS})


def load(run: "str | PathLike[str]", accelerator: str | None = None) -> "Trained":
    """Load a trained model of any task.

    Args:
        run: a run folder.
        accelerator: device of the model: "cpu", "gpu", "mps", or "auto", where a training takes place by default. None:
            the CPU. `trained.model.to("cuda:1")` moves it later.

    Returns:
        The trained model.

    Raises:
        BadInput: if there is no run, or no such device; if a part of the run is missing, damaged or inconsistent.
        ValueError: for an unknown accelerator.

    >>> import elman, tempfile
    >>> reader = elman.tasks.image.fit(None, tempfile.mkdtemp(), epochs=1, hidden=8)
    >>> elman.tasks.load(reader.run.path).classes_.tolist()
    ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9']
    """
    from elman.tasks.api import load

    return load(run, accelerator=accelerator)


def from_hub(repo_id: str, *, revision: str | None = None, token: str | None = None) -> "Trained":
    """Load a trained model of any task from the Hugging Face Hub, as `Trained.from_hub`.

    Args:
        repo_id: "user/name", or a folder on this machine.
        revision: a branch, tag or commit.
        token: of the Hub; None: that of `hf auth login`.

    Returns:
        The trained model.

    Raises:
        BadInput: if the repository is not a run, or damaged.
        MissingPackage: without huggingface_hub.

    >>> import elman, tempfile
    >>> reader = elman.tasks.image.fit(None, tempfile.mkdtemp(), epochs=1, hidden=8)
    >>> elman.tasks.from_hub(str(reader.run.path)).scores == reader.scores      # or "user/name"
    True
    """
    from elman.tasks.api import Trained

    return Trained.from_hub(repo_id, revision=revision, token=token)
