"""Validation of the arguments, callbacks and loggers that users pass on to Lightning's Trainer."""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import Checkpoint, ProgressBar
from lightning.pytorch.loggers import Logger

from elman.io.names import perhaps

LENGTH, VALIDATION = "pass epochs or minutes", "it takes place after every epoch"
PROCESSES = "pass devices and nodes to fit itself"
OPTIONS = ("accelerator", "devices", "precision")  # of `fit`, because they are saved and can change on resuming
CHECKPOINTS, WHOLE = "fit saves checkpoints that can be resumed", "fit trains on all data"
REFUSED = {
    **{name: f"pass {name} to fit itself" for name in OPTIONS},
    "callbacks": "pass callbacks to fit itself",
    "logger": "pass logger to fit itself",
    "gradient_clip_val": "pass clip",
    "gradient_clip_algorithm": "pass clip",
    "accumulate_grad_batches": "pass a larger batch",
    **dict.fromkeys(("max_epochs", "min_epochs", "max_steps", "min_steps", "max_time"), LENGTH),
    **dict.fromkeys(("val_check_interval", "check_val_every_n_epoch", "num_sanity_val_steps"), VALIDATION),
    **dict.fromkeys(("strategy", "num_nodes", "use_distributed_sampler", "sync_batchnorm"), PROCESSES),
    **dict.fromkeys(("enable_checkpointing", "plugins", "barebones", "model_registry"), CHECKPOINTS),
    **dict.fromkeys(("limit_train_batches", "limit_val_batches", "limit_test_batches", "limit_predict_batches"), WHOLE),
    **dict.fromkeys(("overfit_batches", "fast_dev_run", "reload_dataloaders_every_n_epochs"), WHOLE),
}  # arguments that would break resuming, scores or metrics.csv, with the reason or the alternative


@dataclass(frozen=True)
class LightningArguments:
    """Additional arguments for Lightning's Trainer. They are not saved, so a resumed training does not have them.

    Attributes:
        trainer: arguments of `lightning.pytorch.Trainer`, by name.
        callbacks: callbacks that run after the learning rate is set and before metrics and checkpoints are written.
        loggers: loggers that receive everything written to metrics.csv and flow.csv, and the scores; None for
            TensorBoard, if it is installed.
    """

    trainer: Mapping[str, Any] = field(default_factory=dict)
    callbacks: tuple[Callback, ...] = ()
    loggers: tuple[Logger, ...] | None = None

    @property
    def progress_bar(self) -> bool | None:
        """True if Lightning shows its progress bar, False for none; None if elman shows its own."""
        if any(isinstance(callback, ProgressBar) for callback in self.callbacks):
            return True
        shows: bool | None = self.trainer.get("enable_progress_bar")
        return shows

    @classmethod
    def checked(cls, name: str, trainer: Any, callbacks: Any, logger: Any) -> "LightningArguments":
        """Check the arguments of `fit` and convert them.

        Args:
            name: name of the calling function, for error messages.
            trainer: a dict of Trainer arguments, or None.
            callbacks: a callback, a sequence of callbacks, or None.
            logger: a logger or a sequence of loggers; None or True for TensorBoard, False for no logger.

        Returns:
            The checked arguments.

        Raises:
            TypeError: if an argument has a wrong type, or if the Trainer does not have it.
            ValueError: if an argument would break the run.
        """
        if trainer is not None and not isinstance(trainer, Mapping):
            raise TypeError(f"{name}: trainer: expected a dict of arguments of Trainer, got {trainer!r:.60}")
        arguments = dict(trainer or {})
        _check_trainer(f"{name}: trainer", arguments)
        checked_callbacks = _as_tuple(f"{name}: callbacks", Callback, callbacks)
        for callback in checked_callbacks:
            if isinstance(callback, Checkpoint):
                got = type(callback).__name__
                raise ValueError(f"{name}: callbacks: expected none that save checkpoints, got {got}; {CHECKPOINTS}")
        if logger is None or logger is True:
            return cls(arguments, checked_callbacks)
        loggers = () if logger is False else _as_tuple(f"{name}: logger", Logger, logger)
        return cls(arguments, checked_callbacks, loggers)


def _check_trainer(name: str, arguments: Mapping[str, Any]) -> None:
    known = inspect.signature(Trainer).parameters
    for argument, value in arguments.items():
        if argument in REFUSED:
            raise ValueError(f"{name}: expected no {argument}, got {value!r:.40}; {REFUSED[argument]}")
        if argument not in known:
            allowed = ", ".join(parameter for parameter in known if parameter not in REFUSED)
            raise TypeError(f"{name}: {argument}: expected one of {allowed}{perhaps(str(argument), known)}")


def _as_tuple(name: str, kind: type[Any], values: Any) -> tuple[Any, ...]:
    """Return one or several objects of a Lightning class as a tuple."""
    items = tuple(values) if isinstance(values, Sequence) and not isinstance(values, str) else (values,)
    items = () if values is None else items
    for value in items:
        if not isinstance(value, kind):
            got = f"{type(value).__module__}.{type(value).__name__}"
            expected = f"{kind.__name__} objects of lightning.pytorch"
            raise TypeError(f"{name}: expected {expected}, got {got}; import their class from lightning.pytorch")
    return items


OURS = LightningArguments()
