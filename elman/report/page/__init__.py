"""The page about a run: one HTML file, with all in it that it needs."""

import base64
import hashlib
from pathlib import Path
from typing import Any

from rich.filesize import decimal

from elman.errors import BadInput
from elman.io.files import MAKER, check_place, read_bytes, write_whole
from elman.io.run_folder import Run
from elman.report import facts, flow, tables
from elman.report.page import gradient, training
from elman.report.page.history import history
from elman.report.shown import Missing, Shown
from elman.report.templates import environment, text_of

NAME = "report.html"  # in the run's folder, where no other is given
UNITS = {"clip": "gradient norm", "patience": "validations", "flow_every": "steps", "epochs": "passes over the data"}


def target(run: Run, out: Path | None) -> Path:
    """Where the page goes.

    Raises:
        BadInput: if it cannot be there.
    """
    path = out or run.path / NAME
    check_place(path, [".html"], "--out " if out else "")
    return path


def write(run: Run, shown: Shown, path: Path) -> None:
    """Write the page.

    Args:
        run: what it is about.
        shown: what the run's task adds.
        path: of the file.

    Raises:
        BadInput: if something in the run is damaged.
    """
    with tables.progress_console().status("working out how far a gradient reaches"):
        parts = _parts(run, shown, path)
    data = _html(parts).encode("utf-8", "replace")
    write_whole(path, data)
    size, of_plotly = decimal(len(data)), decimal(len(_plotly()))
    tables.console().print(f"written: {path} ({size}; of these plotly.js {of_plotly})", markup=False)


def _parts(run: Run, shown: Shown, path: Path) -> dict[str, Any]:
    scores, changed, clipped = training.scores(run), history(run), flow.clipped(run.path / "flow.csv")
    return {
        "run": run.path.resolve().name,
        "maker": MAKER,
        "task": facts.task(run),
        "settings": _settings(run),
        "units": UNITS | dict(shown.units),
        "ended": facts.ended(run),
        "files": facts.files(run, (path, run.path / NAME)),
        "shown": shown,
        "pictures": {
            says: _inline(run.path / name) for name, says in shown.pictures.items() if (run.path / name).exists()
        },
        "scores": scores if isinstance(scores, Missing) else training.table(shown, scores),
        "losses": training.losses(run, shown),
        "flow": gradient.flow(shown.flow, clipped),
        "history": changed,
        "clipped": clipped,
    }


def _settings(run: Run) -> dict[str, dict[str, str]]:
    """As `elman info` has them; of the options, those that the model does not tell better."""
    found = facts.settings(run)
    return found | {"options": {key: value for key, value in found["options"].items() if key not in found["model"]}}


def _html(parts: dict[str, Any]) -> str:
    scripts = [_plotly(), text_of(__name__, "page.js")]
    hashes = [_hash(script) for script in scripts]
    page = environment(__name__).get_template("page.html")
    return page.render(parts, style=text_of(__name__, "page.css"), scripts=scripts, hashes=hashes)


def _plotly() -> str:
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs())


def _inline(picture: Path) -> str:
    """A PNG file as an address that has all of it."""
    data = read_bytes(picture)
    if not data.startswith(b"\x89PNG"):
        raise BadInput(f"{picture}: expected a PNG file, got one that begins with {data[:4]!r}")
    return "data:image/png;base64," + base64.b64encode(data).decode()


def _hash(script: str) -> str:
    """By which the page's policy knows its own scripts from any that might get in with a sample."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
