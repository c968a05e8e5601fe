"""Results as JSON objects for standard output."""

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from elman.flow.diagnosis import Verdict
from elman.io.run_folder import LOCK, Run
from elman.report.flow import StateRow


def text(value: Any) -> str:
    """Convert a value to JSON; numbers that are not finite become null.

    >>> text({"perplexity": float("inf"), "path": Path("a")})
    '{"perplexity": null, "path": "a"}'
    """
    return json.dumps(_plain(value), ensure_ascii=False, allow_nan=False, default=str)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def describe(run: Run) -> dict[str, Any]:
    """Describe a run: its config.json, and the files in its folder with their sizes in bytes."""
    files = (path for path in sorted(run.path.rglob("*")) if path.is_file() and path.name != LOCK)
    sizes = {str(path.relative_to(run.path)): path.stat().st_size for path in files}
    resume = None if run.config.get("ended") or run.config.get("diverged") else run.resume_command
    return {"run": run.path, **run.config, "resume": resume, "files": sizes}


def flow(run: Run, batch: str, verdict: Verdict, rows: Iterable[StateRow], plots: Iterable[Path]) -> dict[str, Any]:
    """Convert the gradient-flow diagnosis of a backward pass to a JSON object.

    Args:
        run: the run.
        batch: description of the batch.
        verdict: the findings.
        rows: how far the gradient of each state reaches.
        plots: paths of the plots.
    """
    findings = [
        {"kind": finding.kind, "name": finding.name, "text": finding.text, "remedies": finding.options}
        for finding in verdict.findings
    ]
    states = [row._asdict() for row in rows]
    return {"run": run.path, "batch": batch, "findings": findings, "states": states, "plots": list(plots)}
