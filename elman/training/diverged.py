"""Diagnosis of a training whose loss or gradient is not finite."""

from typing import Any

import torch

from elman.errors import Failure
from elman.flow import record
from elman.flow.diagnosis import Verdict
from elman.training.options import TrainingOptions
from elman.training.trainable import Trainable


class Diverged(Failure):
    """The loss or its gradient is not finite.

    The message names the first non-finite value and a remedy.

    Args:
        what: what was observed, and at which step.
        options: the training options.
        verdict: gradient-flow diagnosis of the batch; None if its backward pass cannot be recorded.
    """

    def __init__(self, what: str, options: TrainingOptions, verdict: Verdict | None) -> None:
        self.verdict = verdict
        super().__init__(f"{what}, with --lr {options.lr_at(0):g} and --clip {options.clip:g}. {_advice(verdict)}")


def _advice(verdict: Verdict | None) -> str:
    findings = () if verdict is None else verdict.findings
    message = " ".join(str(finding) for finding in findings if finding.kind in ("non-finite", "exploding", "growing"))
    source = "" if verdict is None or "non-finite" in verdict.kinds else "It was made beside the recurrent layers. "
    return source + (message or "Try a smaller learning rate (--lr).")


def diverged(task: Trainable, options: TrainingOptions, what: str, batch: Any, state: Any) -> Diverged:
    """Run a batch again, forward and backward, and diagnose its gradient flow.

    Args:
        task: the task that is being trained.
        options: the training options.
        what: what was observed, and at which step.
        batch: the batch whose loss or gradient is not finite.
        state: the state that was passed to the loss function with it.

    Returns:
        The exception to raise.
    """
    task.model.zero_grad()
    try:
        with torch.enable_grad(), record(task.model) as recording:  # validation disables gradients
            loss, count, _ = task.loss(batch, state)
            (loss / count).backward()
        verdict = recording.verdict()
    except (RuntimeError, ValueError):
        verdict = None  # no layer of elman, or RTRL: report the divergence without a diagnosis
    return Diverged(what, options, verdict)
