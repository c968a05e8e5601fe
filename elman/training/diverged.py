"""A training whose numbers are none any more, and what `elman.flow` finds of where that began."""

from typing import Any

import torch

from elman.errors import Failure
from elman.flow import record
from elman.flow.diagnosis import Verdict
from elman.training.options import TrainingOptions
from elman.training.trainable import Trainable


class Diverged(Failure):
    """The loss or its gradient is no longer a number.

    Its message says where the first such number was made, and what helps.

    Args:
        what: was seen, and when.
        options: of the training.
        verdict: on the batch; None where its way back through time cannot be looked at.
    """

    def __init__(self, what: str, options: TrainingOptions, verdict: Verdict | None) -> None:
        self.verdict = verdict
        super().__init__(f"{what}, with --lr {options.lr_at(0):g} and --clip {options.clip:g}. {_says(verdict)}")


def _says(verdict: Verdict | None) -> str:
    findings = () if verdict is None else verdict.findings
    told = " ".join(str(finding) for finding in findings if finding.kind in ("non-finite", "exploding", "growing"))
    beside = "" if verdict is None or "non-finite" in verdict.kinds else "It was made beside the recurrent layers. "
    return beside + (told or "Try a smaller learning rate (--lr).")


def diverged(task: Trainable, options: TrainingOptions, what: str, batch: Any, state: Any) -> Diverged:
    """Look at a batch once more, at its backward pass too.

    Args:
        task: whose model it was given to.
        options: of the training.
        what: was seen, and when.
        batch: as the task makes it.
        state: with which its loss was worked out.
    """
    task.model.zero_grad()
    try:
        with torch.enable_grad(), record(task.model) as recording:  # in a validation, too
            loss, count, _ = task.loss(batch, state)
            (loss / count).backward()
        verdict = recording.verdict()
    except (RuntimeError, ValueError):  # no layer of elman's, or RTRL: that it has diverged has to be said all the same
        verdict = None
    return Diverged(what, options, verdict)
