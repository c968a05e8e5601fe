"""Diagnosis of a training whose loss or gradient is not finite."""

from typing import Any

import torch

from elman.errors import Failure
from elman.flow import record
from elman.flow.diagnosis import CLIPPING, SMALLER_RATE, Verdict
from elman.training.options import TrainingOptions
from elman.training.processes import alone
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
        rate, clip = options.lr_at(0), options.clip
        super().__init__(f"{what}, with --lr {rate:g} and --clip {clip:g}. {_advice(verdict, options)}")

    def __reduce__(self) -> tuple[Any, ...]:
        return _without_verdict, (str(self),)


def _without_verdict(message: str) -> Diverged:
    """Return the exception as other processes get it."""
    error = Diverged.__new__(Diverged, message)
    error.verdict = None
    return error


def _advice(verdict: Verdict | None, options: TrainingOptions) -> str:
    """Return the cause, and what to try with options of `elman train`, the cheapest first."""
    findings = [f for f in verdict.findings if f.kind in ("non-finite", "exploding", "growing")] if verdict else []
    causes = [f"{finding.kind}: {finding.text}." for finding in findings]
    if verdict is not None and "non-finite" not in verdict.kinds:
        causes.insert(0, "All values in the recurrent layers are finite.")
    remedies = [option for finding in findings for option in finding.options]
    for remedy in (SMALLER_RATE, CLIPPING):
        if not any(remedy.option in option for option in remedies):
            remedies.append(remedy.option)
    remedies.sort(key=lambda option: (SMALLER_RATE.option not in option, option != CLIPPING.option))
    clip = options.clip / 10 if 0 < options.clip <= 1 else 1.0
    tried = "; ".join(dict.fromkeys(remedies)).replace("(--lr)", f"(--lr {options.smaller_lr:g})")
    return " ".join([*causes, f"Try {tried.replace(CLIPPING.option, f'clipping (--clip {clip:g})')}."])


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
        with alone(), torch.enable_grad(), record(task.model) as recording:  # validation disables gradients
            loss, count, _ = task.loss(batch, state)
            (loss / count).backward()
        verdict = recording.verdict()
    except (RuntimeError, ValueError):
        verdict = None  # no layer of elman, or RTRL: report the divergence without a diagnosis
    return Diverged(what, options, verdict)
