"""How the gradient's way back changed in the course of a training, for the page: flow.csv."""

from elman.flow.history import HistoryRow
from elman.flow.jacobians import HORIZON_SHARE
from elman.io.run_folder import Run
from elman.report import columns
from elman.report.page.charts import Axis, Chart, Line, level, lines
from elman.report.shown import Missing

STEP = Axis("training step", "step")


def history(run: Run) -> list[Chart] | Missing:
    """Horizon and growth, of every cell.

    Raises:
        BadInput: if flow.csv cannot be read.
    """
    path = run.path / "flow.csv"
    if not path.exists():
        return Missing("No history: the training was not asked for one, with --flow-every N.")
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
    drawn = _of_each(cells, "horizon")
    looked = max((v for of in cells.values() for v in of["steps"] if v is not None), default=0.0)
    says = (
        f"After how many steps back less than {HORIZON_SHARE:.0%} of a gradient is left. On the line of all steps more "
        "is left than that."
    )
    drawn.append(level("all steps that were looked at", drawn[0].x, looked))
    return lines("horizon", "How far a gradient reaches back", says, STEP, Axis("steps back", "steps back"), drawn)


def _growth(cells: dict[str, columns.Columns]) -> Chart:
    drawn = _of_each(cells, "growth")
    drawn.append(level("1: neither grows nor fades", drawn[0].x, 1.0))
    y = Axis("times as large after each step back", "times", format=".4f")
    return lines("growth", "Growth", "How many times larger a gradient becomes with each step back.", STEP, y, drawn)


def _of_each(cells: dict[str, columns.Columns], key: str) -> list[Line]:
    return [Line(name, *columns.both(of, "step", key)) for name, of in cells.items()]
