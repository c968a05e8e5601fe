"""Descriptions of a run in words, for the terminal and the report page."""

from collections.abc import Collection
from pathlib import Path
from typing import Any, TypeGuard

from rich.filesize import decimal

from elman.errors import BadInput
from elman.io.format import clock_time, shell_path
from elman.io.run_folder import LOCK, Run
from elman.io.schema import restoring, validated
from elman.report.shown import Scores
from elman.training.options import TrainingOptions

MAX_TEXT = 4000  # characters of a setting that are shown
MAX_COUNT = 1e15  # of steps or seconds


def task(run: Run) -> str:
    """Return the task of a run and the version of elman that trained it."""
    return f"{run.config['task']}, by elman {run.config['elman']}"


def settings(run: Run) -> dict[str, dict[str, str]]:
    """Return the settings of the data, the model, the task and the training, by section and name."""
    sections = {key: run.config[key].items() for key in ("data", "model", "options", "training")}
    return {
        key: {_shortened(name.strip("_")): _value(value) for name, value in items if value not in (None, "")}
        for key, items in sections.items()
    }


def ended(run: Run) -> str:
    """Return when the training ended, or the command that resumes it.

    Raises:
        BadInput: if "ended" in config.json is malformed.
    """
    end = run.config.get("ended")
    if end and not all(_is_count(end.get(key)) for key in ("steps", "seconds")):
        raise BadInput(f"{run.path / 'config.json'}: expected 'ended' to have steps and seconds, got {end!r:.60}")
    if end:
        unit = "hours" if end["seconds"] >= 3600 else "minutes"
        so_far = f"after {end['steps']:,} steps, {clock_time(end['seconds'])} {unit} of training"
        if end.get("skipped"):
            so_far += f", of which {end['skipped']} were skipped because their loss or gradient was not finite"
        if end.get("pruned"):
            so_far += "; pruned by elman tune"
        return f"{so_far}. {not_converged(run)}" if not_converged(run) else so_far
    if run.config.get("diverged"):
        return f"diverged; retrain with a smaller learning rate: {restart_command(run)}"
    return f"not yet; resume with: {run.resume_command}"


def scores(run: Run) -> Scores:
    """Return the scores of a run, with margins and those of each label; empty before the training has ended.

    Raises:
        BadInput: if they are malformed.
    """
    names = ("scores", "margins", "by_label", "scored")
    rows, margins, by_label, counted = (run.config.get(name) or {} for name in names)
    for name, values in {"scores": rows, "margins": margins, "by_label": by_label}.items():
        if not isinstance(values, dict) or not all(map(are_numbers, values.values())):
            where = f"{run.path / 'config.json'}: expected {name!r} to be numbers by names"
            raise BadInput(f"{where}, got {values!r:.60}")
    for name, values in {"scores": rows, "by_label": by_label}.items():
        if len(set(map(tuple, values.values()))) > 1:
            raise BadInput(f"{run.path / 'config.json'}: expected one set of names in {name!r}, got {values!r:.60}")
    numbers = {title: {name: float(score) for name, score in row.items()} for title, row in rows.items()}
    return Scores(numbers, margins, str(counted or "")[:MAX_TEXT], by_label)


def are_numbers(row: object) -> bool:
    """Return whether an object is a dict of numbers."""
    return isinstance(row, dict) and all(isinstance(value, int | float) for value in row.values())


def restart_command(run: Run) -> str:
    """Return the command that retrains with the options of a run and a smaller learning rate."""
    with restoring(run.path / "config.json", "the options of a training"):
        lr = validated(TrainingOptions, run.config["training"]).smaller_lr
    return f"elman train {run.config['task']} --config {shell_path(run.path)} --lr {lr:g}"


def not_converged(run: Run) -> str | None:
    """Return a note for a training that reached its limit before validation stopped improving; None otherwise."""
    option = (run.config.get("ended") or {}).get("limit")
    limit = run.config["training"].get(option) if isinstance(option, str) else None
    if not _is_count(limit):
        return None
    unit = str(option).removesuffix("s" if limit == 1 else "")
    return (
        f"Training reached its limit of {limit:g} {unit} before validation stopped improving; to train longer: "
        f"{run.resume_command} --{option} {2 * limit:g}"
    )


def files(run: Run, but: Collection[Path] = ()) -> list[str]:
    """Return the files in the folder of a run, with sizes.

    Args:
        run: the run; its lock file is not listed.
        but: files that are not listed either.
    """
    paths = (path for path in run.path.rglob("*") if path.is_file() and path.name != LOCK and path not in but)
    lines = (f"{path.relative_to(run.path)} ({decimal(path.stat().st_size)})" for path in paths)
    return sorted(line.replace("\n", "\\n") for line in lines)  # a name with a line break is no other file


def _is_count(value: Any) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and 0 <= value < MAX_COUNT


def _value(value: Any) -> str:
    if isinstance(value, list):
        return _shortened(", ".join(map(str, value))) or "none"
    return _shortened(f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value))


def _shortened(text: str) -> str:
    """Shorten what a file says that may be from somebody else: laying out a hundred megabytes takes minutes."""
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}… ({len(text):,} characters)"
