"""What the pages of the tasks show in Python runs: with little data, and trained for a moment."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import soundfile

from elman.tasks import api
from elman.tasks.registry import TASKS
from tests.small import text

PAGES = Path(__file__).parent.parent.parent / "docs" / "tasks"
DRAW = np.random.default_rng(0)
WORDS = [f"{word} {thing}" for thing in "abcdefghijklmnopqrst" for word in ("good", "bad")]
LITTLE: dict[str, Callable[[], dict[str, Any]]] = {  # what the pages take to be there
    "text": lambda: {"whole": text(8000).replace("the ", "please ")},
    "image": lambda: {"images": DRAW.random((40, 4, 4)), "labels": list("ab" * 20)},
    "classify": lambda: {"texts": WORDS, "labels": ["+", "-"] * 20},
    "tag": lambda: {"sentences": [words.split() for words in WORDS], "labels": [["A", "N"]] * len(WORDS)},
    "forecast": lambda: {"frame": _hours(600), "later": _hours(400)},
    "translate": lambda: {"Ellipsis": [(one, one[::-1]) for one in map(str, range(100, 140))]},
    "caption": lambda: {"images": DRAW.random((40, 4, 4)), "texts": WORDS},
    "transcribe": lambda: {"waves": _waves(), "texts": ["a", "o"] * 10, "others": _waves(), "their_texts": ["a"] * 20},
    "music": lambda: {"pieces": [[[60 + i, 64], [62, 65 + i], [60]] * 3 for i in range(12)]},
}


def _hours(n: int) -> pl.DataFrame:
    moments = np.datetime64("2026-01-01T00", "ms") + np.arange(n) * np.timedelta64(1, "h")
    return pl.DataFrame({"date": moments, "OT": np.sin(np.arange(n) / 4) + DRAW.normal(size=n)})


def _waves() -> list[Any]:
    return [np.sin(i + np.arange(2000) * (0.05 if i % 2 else 0.2)) for i in range(20)]


@pytest.mark.parametrize("task", TASKS)
def test_what_a_page_shows_in_python(task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def short(task: str, data: Any, out: Any, given: dict[str, Any], *arguments: Any) -> Any:
        if isinstance(data, list):
            data = [one for one in data if one is not ...] + names.get("Ellipsis", [])
        return fit(task, data, out, {**given, "hidden": 4, "minutes": None, "epochs": 0.1}, *arguments)

    fit = api.fit
    monkeypatch.setattr(api, "fit", short)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits").mkdir()
    for take in range(3):
        soundfile.write(tmp_path / "digits" / f"7_jackson_{take}.wav", _waves()[0], 8000)
    blocks = re.findall(r"```python\n(.*?)```", (PAGES / f"{task}.md").read_text(), re.DOTALL)
    assert blocks
    names = LITTLE[task]()
    for block in blocks:
        exec(compile(block, f"{task}.md", "exec"), names)
    if task == "transcribe":
        table = pl.read_csv(tmp_path / "digits" / "rest.csv")
        assert table.rows() == [("7_jackson_2.wav", "seven", "jackson 2", "jackson")]
