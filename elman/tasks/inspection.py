"""What other rooms want of a run, whatever its task: its model, a backward pass, what its report shows."""

import torch

from elman.errors import BadInput
from elman.flow import Recording
from elman.io.run_folder import Run
from elman.report import tables
from elman.report.shown import Missing, Recorded, Shown
from elman.tasks.prepared_data import Loaded
from elman.tasks.registry import task_of_run
from elman.tasks.task import Task, weights

STEPS, SEQUENCES = 128, 16  # that are looked at, where nothing else is said


def network(run: Run, gradients: bool) -> tuple[torch.nn.Module, Recording | None]:
    """The trained model of a run, and if they are wanted, the gradients of a backward pass on the run's data."""
    kind = task_of_run(run)
    loaded = kind.load(run)
    return loaded.model, kind.recorded(loaded, None, STEPS, SEQUENCES)[0] if gradients else None


def show(run: Run) -> Shown:
    """What the report of a run shows that only its task can tell, as far as it is there.

    Raises:
        BadInput: if anything in the run is damaged or does not belong together.
    """
    kind = task_of_run(run)
    ended = run.config.get("ended")
    if not (run.path / "model.safetensors").exists():
        with torch.device("meta"):
            model = kind.of(run)
        why = f"The training has not saved a model yet; to go on: {run.resume_command}"
        missing = Missing("The weights of this run, its model.safetensors, are gone." if ended else why)
        return Shown(str(model.title), weights(model), kind.loss, missing, missing, kind.units)
    loaded = kind.load(run)
    console = tables.console()
    with console.status("drawing samples"):
        samples = kind.samples(loaded, console)
    with console.status("going back through time"):
        flow = _flow(kind, loaded)
    return Shown(str(loaded.model.title), weights(loaded.model), kind.loss, samples, flow, kind.units, kind.pictures)


def _flow(kind: Task, loaded: Loaded) -> Recorded | Missing:
    try:
        return Recorded(*kind.recorded(loaded, None, STEPS, SEQUENCES))
    except BadInput as error:
        return Missing(f"The data of the training cannot be read any more: {error}")
