"""How the training went, for the page: losses, learning rate, scores."""

from dataclasses import dataclass

import polars as pl

from elman.errors import BadInput
from elman.io.run_folder import Run
from elman.report import columns
from elman.report.curves import limits
from elman.report.page.charts import Axis, Chart, Line, level, lines
from elman.report.shown import Missing, Shown
from elman.report.tables import in_words
from elman.training.metrics import COLUMNS

STEP = Axis("training step", "step")

Scores = dict[str, dict[str, float]]


@dataclass(frozen=True)
class Losses:
    """The curves of a training; `best` is the validation loss of the weights that were kept, `at` which step."""

    losses: Chart
    rate: Chart | Missing
    best: float | None
    at: float | None
    baseline: float | None


def losses(run: Run, shown: Shown) -> Losses | Missing:
    """The curves, from metrics.csv.

    Raises:
        BadInput: if that cannot be read.
    """
    path, missing = (
        run.path / "metrics.csv",
        Missing("No losses yet: the training has not written a row of metrics.csv."),
    )
    if run.is_unsaved and not path.exists():
        return missing
    values = columns.numbers(path, columns.read(path, COLUMNS), COLUMNS)
    x, train = columns.both(values, "step", "train_loss")
    at, validation = columns.both(values, "step", "val_loss")
    if not x and not at:
        return missing
    smooth = pl.Series(train, dtype=pl.Float64).ewm_mean(half_life=max(len(train) / 100, 1)).to_list()
    drawn = [
        Line("training, step by step", x, train, faint=True),
        Line("training, smoothed", x, smooth),
        Line("validation", at, validation, every=len(at) < 60),
    ]
    baseline = _beside(run)
    if baseline is not None:
        drawn.append(level(baseline[0], [*x, *at], baseline[1]))
    seen = [*smooth[len(smooth) // 20 :], *validation, *([baseline[1]] if baseline else [])]
    best = min(validation, default=None)
    chart = lines(
        "losses", "Training and validation", _says(best, shown.unit, baseline), STEP,
        Axis(shown.unit, shown.unit, limits=limits(seen), format=".4f"), drawn,
    )  # fmt: skip
    where = at[validation.index(best)] if best is not None else None
    return Losses(chart, _rate(values), best, where, baseline[1] if baseline else None)


def _says(best: float | None, unit: str, baseline: tuple[str, float] | None) -> str:
    if best is None:
        return "No validation yet."
    against = f"; {baseline[0]}, the line to get below, has {baseline[1]:.3f}" if baseline else ""
    return f"Best on validation: {best:.3f} {unit}{against}."


def _beside(run: Run) -> tuple[str, float] | None:
    """The best of the baselines on what is validated on."""
    found = run.config.get("baselines") or {}
    if not _all_numbers(found):
        raise BadInput(f"{run.path / 'config.json'}: expected 'baselines' to be numbers by names, got {found!r:.60}")
    return min(found.items(), key=lambda other: other[1], default=None)


def _baseline(shown: Shown, found: Scores) -> tuple[str, float] | None:
    others = [(name, row[shown.loss]) for name, row in found.items() if name != shown.title and shown.loss in row]
    return min(others, key=lambda other: other[1], default=None)


def _rate(values: columns.Columns) -> Chart | Missing:
    x, rate = columns.both(values, "step", "lr")
    if not x:
        return Missing("No learning rates in metrics.csv.")
    says = f"From {rate[0]:.3g} to {rate[-1]:.3g}, highest {max(rate):.3g}."
    y = Axis("learning rate", limits=(0, 1.06 * max(rate) or 1.0))
    return lines("rate", "Learning rate", says, STEP, y, [Line("learning rate", x, rate)])


def scores(run: Run) -> Scores | Missing:
    """The scores by names and units.

    Raises:
        BadInput: if config.json has something else in their place.
    """
    found = run.config.get("scores")
    if not found:
        return Missing(f"No scores yet: the training has not ended; to go on: {_again(run)}")
    rows = list(found.values()) if isinstance(found, dict) else [found]
    if not all(_all_numbers(row) for row in rows) or len(set(map(tuple, rows))) > 1:
        raise BadInput(f"{run.path / 'config.json'}: expected 'scores' to be numbers by names, got {found!r:.60}")
    return {name: {unit: float(value) for unit, value in row.items()} for name, row in found.items()}


def _all_numbers(row: object) -> bool:
    return isinstance(row, dict) and all(isinstance(value, int | float) for value in row.values())


def _again(run: Run) -> str:
    return run.resume_command


@dataclass(frozen=True)
class ReportTable:
    """The scores as the page shows them."""

    says: str
    head: list[str]
    rows: list[list[str]]


def table(shown: Shown, found: Scores) -> ReportTable:
    """All scores, and a sentence about them."""
    units = list(next(iter(found.values())))
    rows = [[name, *map(in_words, row.values())] for name, row in found.items()]
    return ReportTable(_compared(shown, found), ["", *(unit.replace("_", " ") for unit in units)], rows)


def _compared(shown: Shown, found: Scores) -> str:
    own, best = found.get(shown.title, {}).get(shown.loss), _baseline(shown, found)
    others = [name for name in found if name != shown.title]
    if not others:
        return "There is no baseline to compare with."
    if own is None or best is None:
        return f"Beside {shown.title}: {', '.join(others)}."
    name, other = best
    share = abs(own - other) / other if other else 0.0
    if own < other:
        return f"{shown.title} needs {share:.1%} fewer {shown.unit} than the baseline, {name}."
    return f"{shown.title} needs {share:.1%} more {shown.unit} than the baseline, {name}: it has yet to get below."
