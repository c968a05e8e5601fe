"""Inspect a run for reports and drawings: its model, a backward pass, samples."""

import torch

from elman.errors import BadInput
from elman.flow import Recording
from elman.io.run_folder import Run
from elman.report import tables
from elman.report.shown import Missing, Recorded, Shown
from elman.tasks.registry import task_of_run
from elman.tasks.task import Loaded, Task, parameter_count

MAX_STEPS, MAX_SEQUENCES = 128, 16  # at most, in the recorded backward pass


def network(run: Run, gradients: bool) -> tuple[torch.nn.Module, Recording | None]:
    """Load the model of a run and, if `gradients`, record the gradient flow of a backward pass on its data."""
    task = task_of_run(run)
    loaded = task.load(run)
    return loaded.model, task.record_flow(loaded, None, MAX_STEPS, MAX_SEQUENCES)[0] if gradients else None


def show(run: Run) -> Shown:
    """Return the parts of a report that depend on the task; `Missing` for those that are not available.

    Raises:
        BadInput: if anything in the run is damaged or inconsistent.
    """
    task = task_of_run(run)
    ended = run.config.get("ended")
    if not (run.path / "model.safetensors").exists():
        with torch.device("meta"):
            model = task.new_model(run)
        why = f"The training has not saved a model yet; to resume: {run.resume_command}"
        missing = Missing("The weights of this run, model.safetensors, do not exist." if ended else why)
        return Shown(str(model.title), parameter_count(model), task.loss_of(run), missing, missing, task.option_units)
    loaded = task.load(run)
    console = tables.progress_console()
    with console.status("drawing samples"):
        samples = task.samples(loaded, console)
    with console.status("recording the gradient flow"):
        flow = _flow(task, loaded)
    return Shown(
        str(loaded.model.title),
        parameter_count(loaded.model),
        task.loss_of(run),
        samples,
        flow,
        task.option_units,
        task.plot_captions,
    )


def _flow(task: Task, loaded: Loaded) -> Recorded | Missing:
    try:
        return Recorded(*task.record_flow(loaded, None, MAX_STEPS, MAX_SEQUENCES))
    except BadInput as error:
        return Missing(f"The training data cannot be read: {error}")
