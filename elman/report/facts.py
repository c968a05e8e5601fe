"""What a run is, in words, for the terminal and for the page."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

from rich.filesize import decimal

from elman.errors import BadInput
from elman.io.format import clock_time
from elman.io.run_folder import LOCK, Run


def task(run: Run) -> str:
    """Which task, and by which elman."""
    return f"{run.config['task']}, by elman {run.config['elman']}"


def settings(run: Run) -> dict[str, dict[str, str]]:
    """All that was given: of the data, the model, the task's options and the training, by name."""
    return {
        key: {name.strip("_"): _value(value) for name, value in run.config[key].items() if value not in (None, "")}
        for key in ("data", "model", "options", "training")
    }


def ended(run: Run) -> str:
    """When the training ended, or how to go on with it.

    Raises:
        BadInput: if config.json has something else there.
    """
    end = run.config.get("ended")
    if end and not (
        isinstance(end, dict) and all(isinstance(end.get(key), int | float) for key in ("steps", "seconds"))
    ):
        raise BadInput(f"{run.path / 'config.json'}: expected 'ended' to have steps and seconds, got {end!r:.60}")
    if end:
        unit = "hours" if end["seconds"] >= 3600 else "minutes"
        so_far = f"after {end['steps']:,} steps, {clock_time(end['seconds'])} {unit} of training"
        return f"{so_far}. {not_converged(run)}" if not_converged(run) else so_far
    return f"not yet; go on with: {run.resume_command}"


def not_converged(run: Run) -> str | None:
    """What to say of a training that reached its limit before validation stopped improving; None of any other."""
    option = (run.config.get("ended") or {}).get("limit")
    limit = run.config["training"].get(option)
    if not isinstance(limit, int | float):
        return None
    unit = str(option).removesuffix("s" if limit == 1 else "")
    return (
        f"Training reached its limit of {limit:g} {unit} before validation stopped improving; to train longer: "
        f"{run.resume_command} --{option} {2 * limit:g}"
    )


def files(run: Run, but: Collection[Path] = ()) -> list[str]:
    """What is in the folder, with sizes; the lock is left out, and more files may be."""
    found = (path for path in run.path.rglob("*") if path.is_file() and path.name != LOCK and path not in but)
    return sorted(f"{path.relative_to(run.path)} ({decimal(path.stat().st_size)})" for path in found)


def _value(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
