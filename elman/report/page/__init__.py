"""The report of a run as a self-contained HTML page."""

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
from elman.report.shown import Shown
from elman.report.templates import environment, text_of

NAME = "report.html"  # default file name, in the folder of the run
MAX_PICTURE = 1 << 26  # bytes of a picture in the page
UNITS = {"clip": "gradient norm", "patience": "validations", "flow_every": "steps", "epochs": "passes over the data"}


def target(run: Run, out: Path | None) -> Path:
    """Return the path of the page.

    Args:
        run: the run.
        out: the file to write; None for report.html in the folder of the run.

    Raises:
        BadInput: if the page cannot be written there.
    """
    path = out or run.path / NAME
    check_place(path, [".html"], "--out " if out else "")
    return path


def write(run: Run, shown: Shown, path: Path) -> None:
    """Write the page.

    Args:
        run: the run.
        shown: task-specific content.
        path: the file to write.

    Raises:
        BadInput: if a file of the run is damaged.
    """
    with tables.progress_console().status("computing gradient-flow diagnostics"):
        parts = _parts(run, shown, path)
    data = _html(parts).encode("utf-8", "replace")
    write_whole(path, data)
    size, plotly_size = decimal(len(data)), decimal(len(_plotly()))
    tables.console().print(f"report: {path} ({size}, of which plotly.js {plotly_size})", markup=False)


def _parts(run: Run, shown: Shown, path: Path) -> dict[str, Any]:
    flow_history, clipped = history(run), flow.clipped(run.path / "flow.csv")
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
            description: _inline(run.path / name)
            for name, description in shown.pictures.items()
            if (run.path / name).exists()
        },
        "scores": training.table(shown, run),
        "losses": training.losses(run, shown),
        "flow": gradient.flow(shown.flow, clipped),
        "history": flow_history,
        "clipped": clipped,
    }


def _settings(run: Run) -> dict[str, dict[str, str]]:
    """Return the settings that `elman info` prints, without options that the model settings repeat."""
    settings = facts.settings(run)
    options = {key: value for key, value in settings["options"].items() if key not in settings["model"]}
    return settings | {"options": options}


def _html(parts: dict[str, Any]) -> str:
    scripts = [_plotly(), text_of(__name__, "page.js")]
    hashes = [_hash(script) for script in scripts]
    page = environment(__name__).get_template("page.html")
    return page.render(parts, style=text_of(__name__, "page.css"), scripts=scripts, hashes=hashes)


def _plotly() -> str:
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs())


def _inline(picture: Path) -> str:
    """Return a PNG file as a data URL."""
    data = read_bytes(picture, MAX_PICTURE)
    if not data.startswith(b"\x89PNG"):
        raise BadInput(f"{picture}: expected a PNG file, got one that begins with {data[:4]!r}")
    return "data:image/png;base64," + base64.b64encode(data).decode()


def _hash(script: str) -> str:
    """Return the hash that the content security policy lists, so that scripts in a sample cannot run."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
