"""Charts of losses and learning rate, and the table of scores."""

from dataclasses import dataclass

import polars as pl

from elman.errors import BadInput
from elman.io.run_folder import Run
from elman.report import columns, facts
from elman.report.curves import limits
from elman.report.page.charts import Axis, Chart, Line, level, lines
from elman.report.shown import Missing, Scores, Shown
from elman.report.tables import label_rows, score_rows, scored_on
from elman.training.metrics import COLUMNS

STEP = Axis("training step", "step")


@dataclass(frozen=True)
class Losses:
    """Loss and learning rate curves of a training.

    Attributes:
        losses: chart of the training and validation loss.
        rate: chart of the learning rate.
        best: the lowest validation loss, which is that of the saved weights.
        best_step: training step of that validation.
        baseline: loss of the best baseline.
    """

    losses: Chart
    rate: Chart | Missing
    best: float | None
    best_step: float | None
    baseline: float | None


def losses(run: Run, shown: Shown) -> Losses | Missing:
    """Create the curves from metrics.csv.

    Raises:
        BadInput: if metrics.csv cannot be read.
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
    smoothed = pl.Series(train, dtype=pl.Float64).ewm_mean(half_life=max(len(train) / 100, 1)).to_list()
    curves = [
        Line("training loss", x, train, faint=True),
        Line("training loss, smoothed", x, smoothed),
        Line("validation loss", at, validation, every=len(at) < 60),
    ]
    baseline = _validation_baseline(run)
    if baseline is not None:
        curves.append(level(baseline[0], [*x, *at], baseline[1]))
    visible = [*smoothed[len(smoothed) // 20 :], *validation, *([baseline[1]] if baseline else [])]
    best = min(validation, default=None)
    chart = lines(
        "losses", "Training and validation loss", _loss_description(best, shown.unit, baseline), STEP,
        Axis(shown.unit, shown.unit, limits=limits(visible), format=".4f"), curves,
    )  # fmt: skip
    best_step = at[validation.index(best)] if best is not None else None
    return Losses(chart, _rate(values), best, best_step, baseline[1] if baseline else None)


def _loss_description(best: float | None, unit: str, baseline: tuple[str, float] | None) -> str:
    if best is None:
        return "No validation yet."
    against = f"; baseline {baseline[0]}: {baseline[1]:.3f}" if baseline else ""
    return f"Best validation loss: {best:.3f} {unit}{against}."


def _validation_baseline(run: Run) -> tuple[str, float] | None:
    """Return name and validation loss of the best baseline; None if there is none."""
    baselines = run.config.get("baselines") or {}
    if not facts.are_numbers(baselines):
        raise BadInput(
            f"{run.path / 'config.json'}: expected 'baselines' to be numbers by names, got {baselines!r:.60}"
        )
    return min(baselines.items(), key=lambda item: item[1], default=None)


def _best_baseline(shown: Shown, scores: Scores) -> tuple[str, float] | None:
    _, *baselines = scores.items()  # the first is the model
    losses = [(name, row[shown.loss]) for name, row in baselines if shown.loss in row]
    return min(losses, key=lambda item: item[1], default=None)


def _rate(values: columns.Columns) -> Chart | Missing:
    x, rate = columns.both(values, "step", "lr")
    if not x:
        return Missing("No learning rates in metrics.csv.")
    description = f"From {rate[0]:.3g} to {rate[-1]:.3g}, highest {max(rate):.3g}."
    y = Axis("learning rate", limits=(0, 1.06 * max(rate) or 1.0))
    return lines("rate", "Learning rate", description, STEP, y, [Line("learning rate", x, rate)])


@dataclass(frozen=True)
class ReportTable:
    """Table of scores.

    Attributes:
        comparison: a sentence that compares the model with the baselines.
        note: on what the scores are of.
        header, rows: the table.
        label_header, label_rows: the table of the model's scores by label; empty for a task without.
    """

    comparison: str
    note: str
    header: list[str]
    rows: list[list[str]]
    label_header: list[str]
    label_rows: list[list[str]]


def table(shown: Shown, run: Run) -> ReportTable | Missing:
    """Create the table of scores.

    Args:
        shown: task-specific content.
        run: the run.

    Raises:
        BadInput: if the scores in config.json are malformed.
    """
    scores = facts.scores(run)
    if not scores:
        return Missing(f"No scores yet: the training has not ended. Resume it with: {run.resume_command}")
    head, label_head = (
        ["", *(name.replace("_", " ") for name in next(iter(rows.values()), ()))] for rows in (scores, scores.by_label)
    )
    comparison = _comparison(shown, scores)
    return ReportTable(comparison, scored_on(scores), head, score_rows(scores), label_head, label_rows(scores))


def _comparison(shown: Shown, scores: Scores) -> str:
    (title, row), *_ = scores.items()
    loss, baseline, baselines = row.get(shown.loss), _best_baseline(shown, scores), list(scores)[1:]
    if not baselines:
        return "There is no baseline to compare with."
    if loss is None or baseline is None:
        return f"Baselines: {', '.join(baselines)}."
    name, baseline_loss = baseline
    share = abs(loss - baseline_loss) / baseline_loss if baseline_loss else 0.0
    if loss < baseline_loss:
        return f"{title}: {shown.unit} {share:.1%} lower than the best baseline, {name}."
    return f"{title}: {shown.unit} {share:.1%} higher than the best baseline, {name}."
