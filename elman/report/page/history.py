"""Charts of the gradient flow during training, from flow.csv."""

from elman.flow.history import HistoryRow
from elman.flow.jacobians import HORIZON_SHARE
from elman.io.run_folder import Run
from elman.report import columns
from elman.report.page.charts import Axis, Chart, Line, level, lines
from elman.report.shown import Missing

STEP = Axis("training step", "step")


def history(run: Run) -> list[Chart] | Missing:
    """Create charts of the horizon and the growth factor of every recurrent layer over training steps.

    Raises:
        BadInput: if flow.csv cannot be read.
    """
    path = run.path / "flow.csv"
    if not path.exists():
        return Missing("No history: the training did not record one; pass --flow-every N to elman train.")
    rows = columns.read(path, ["step", *HistoryRow._fields])
    if not rows:
        return Missing("No history yet: flow.csv has no rows.")
    wanted = ["step", "steps", "horizon", "growth"]
    cells = {
        name: columns.numbers(path, [row for row in rows if row["name"] == name], wanted)
        for name in dict.fromkeys(row["name"] for row in rows)
    }
    return [_horizon(cells), _growth(cells)]


def _horizon(cells: dict[str, columns.Columns]) -> Chart:
    curves = _lines(cells, "horizon")
    max_steps = max((v for table in cells.values() for v in table["steps"] if v is not None), default=0.0)
    text = (
        f"Number of steps back after which less than {HORIZON_SHARE:.0%} of a gradient remains. A point on the line "
        "of all steps means that more remains."
    )
    curves.append(level("all measured steps", curves[0].x, max_steps))
    return lines("horizon", "Gradient horizon", text, STEP, Axis("steps back", "steps back"), curves)


def _growth(cells: dict[str, columns.Columns]) -> Chart:
    curves = _lines(cells, "growth")
    curves.append(level("1: constant", curves[0].x, 1.0))
    y = Axis("growth factor per step back", "times", format=".4f")
    return lines("growth", "Gradient growth", "Factor by which a gradient grows with each step back.", STEP, y, curves)


def _lines(cells: dict[str, columns.Columns], key: str) -> list[Line]:
    return [Line(name, *columns.both(table, "step", key)) for name, table in cells.items()]
