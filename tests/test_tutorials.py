"""The tutorials run from top to bottom, and what they show is what they print."""

import runpy
from pathlib import Path
from typing import Any

import pytest

from tests.tolerances import PRINTED

ROOT = Path(__file__).parent.parent
TUTORIALS: dict[str, Any] = runpy.run_path(str(ROOT / "docs" / "make_tutorials.py"))
PAGES: list[Path] = TUTORIALS["PAGES"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_tutorial_prints_what_it_shows(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", TUTORIALS["WIDTH"])
    is_comparable = True
    for block, printed in TUTORIALS["run"](page, tmp_path, quick=True):
        is_comparable &= not block.is_slow
        if is_comparable:
            assert TUTORIALS["matches"](block.shown or "", printed, PRINTED), (
                f"{page.name}, line {block.line}: {printed}"
            )
    pictures = TUTORIALS["PICTURE"].findall(page.read_text(encoding="utf-8"))
    assert pictures
    for picture in pictures:
        assert (tmp_path / picture).exists()
        assert (page.parent / picture).stat().st_size < 150_000


@pytest.mark.parametrize(
    ("shown", "printed", "expected"),
    [
        ("loss 0.500 at step 3", "loss  0.505 at step 3\n", True),
        ("loss 0.500 at step 3", "loss 0.520 at step 3", False),
        ("loss 0.500 at step 3", "loss nan at step 3", False),
        ("1.2 ms", "37.5 ms", True),
        ("1.2 mm", "37.5 mm", False),
        ("first\n...\nlast 1", "first\nand so on\nlast 1", True),
        ("first\n...\nlast 1", "first\nlast 2", False),
        ("", "a warning", False),
    ],
)
def test_what_is_printed_is_compared(shown: str, printed: str, expected: bool) -> None:
    assert TUTORIALS["matches"](shown, printed, PRINTED) is expected
