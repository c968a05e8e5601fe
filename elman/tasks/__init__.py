"""Every classic use of a recurrent network: `elman train TASK` in Python.

>>> import elman, tempfile
>>> reader = elman.tasks.image.fit(None, tempfile.mkdtemp(), epochs=1, hidden=8)      # scikit-learn's digits
>>> reader.predict([[[0.0] * 8] * 8])[0].keys()
dict_keys(['input', 'label', 'probability'])
>>> elman.tasks.load(reader.run).scores == reader.scores
True

A task is a folder and a line in `TASKS`. A folder has `options`, which imports nothing heavy and declares what the
command line offers: `OPTIONS`, a dataclass; `DATA`, its argument; `TRAINING`, what trainings of this task begin with in
the place of the common defaults; `HELP`; and `PATIENCE`, where the common one does not suit a training whose length is
not given. And it has `task`, whose `KIND` is all the rest.
"""

from importlib import import_module
from os import PathLike
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from elman.tasks.registry import TASKS

if TYPE_CHECKING:
    from elman.tasks.api import Trained


def __getattr__(name: str) -> ModuleType:
    if name in TASKS:
        return import_module(f"elman.tasks.{name}")
    raise AttributeError(f"module 'elman.tasks' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *TASKS])


def load(run: "str | PathLike[str]") -> "Trained":
    """The trained model of a run, to be used: what `elman.tasks.image.fit` and its like have given.

    Args:
        run: its folder; or what `fit` gives as `run`.

    Raises:
        BadInput: if there is none; if anything in it is missing, damaged or does not belong together.
    """
    from elman.io.run_folder import open_run
    from elman.tasks.api import Trained

    return Trained(open_run(Path(run)))
