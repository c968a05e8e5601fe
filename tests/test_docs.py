"""Every example in the documentation is run, and prints what the page says."""

import re
import runpy
from pathlib import Path

import pytest

import elman
from tests import recorded
from tests.doc_blocks import (
    FENCE,
    PAGES,
    ROOT,
    WIDTH,
    blocks,
    check_page,
    check_usage,
    matches,
    pictures,
    run_page,
    shorten,
)
from tests.tolerances import PRINTED

LANGUAGES = {"pycon", "python", "console", "sh", "text", "c", "csv", "json", "toml", "yaml", "tsv"}
PICTURES = sorted(path for path in (ROOT / "docs").rglob("*") if path.suffix in (".png", ".svg"))


def _name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.filterwarnings("ignore:::lightning", "ignore:.*LeafSpec:FutureWarning")  # Lightning's own
@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_a_page_prints_what_it_says(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", WIDTH)
    check_page(page)


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_commands_are_accepted(page: Path) -> None:
    for block in blocks(page):
        if block.language == "sh":
            for line in block.code.splitlines():
                check_usage(line)
        for example in block.examples if block.language == "console" and block.is_recorded else ():
            check_usage(example.code)


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_every_example_is_of_a_kind_that_is_checked(page: Path) -> None:
    for block in blocks(page):
        assert block.language in LANGUAGES, block
        assert block.language == "console" or not re.search(r"^\$ ", block.code, re.MULTILINE), block
    above = ""
    for line in FENCE.sub("", page.read_text(encoding="utf-8")).splitlines():
        if line[:4].isspace():  # indented code, unless a list or a note goes on
            assert re.match(r"[-*] |\d+\. |!!! |\?\?\? |=== |::: ", above), line
        elif line.strip():
            above = line


def test_the_tables_of_spoken_digits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("spoken").mkdir()
    for take in range(3):
        Path("spoken", f"7_jackson_{take}.wav").touch()
    (code,) = [block.code for block in blocks(ROOT / "docs/tasks/transcribe.md") if block.language == "python"]
    exec(compile(code, "transcribe.md", "exec"), {})
    rows = Path("spoken", "rest.csv").read_text(encoding="utf-8").splitlines()
    assert rows == ["path,text,take,speaker", "7_jackson_2.wav,seven,jackson 2,jackson"]


@pytest.mark.parametrize("page", ["README.md", "docs/benchmarks.md"])
def test_the_summary_of_the_benchmarks_is_that_of_the_results(page: str) -> None:
    summary = runpy.run_path(str(ROOT / "benchmarks" / "summary.py"))
    assert summary["table"]() in (ROOT / page).read_text(encoding="utf-8")


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


@pytest.mark.parametrize("picture", PICTURES, ids=_name)
def test_a_picture_is_made_by_a_page(picture: Path) -> None:
    assert any(page.parent / path == picture for page in PAGES for path in pictures(page))
    assert picture.stat().st_size < (150_000 if "tutorials" in picture.parts else 200_000)


def test_a_wrong_output_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    page = tmp_path / "page.md"
    for block in (
        "```pycon\n>>> 1 + 1\n3\n```",
        "```console\n$ elman --version\nelman 0.0\n```",
        "```console\n$ elman no-such-command\n...\n```",
        "```console\n$ elman --version\nelman: an error\n```",
        "```python\nassert 1 + 1 == 3\n```",
        "```python\nprint(1 + 1)\n```",
        "```python\nprint(1 + 1)\n```\n\n```text\n3\n```",
        "```python\nname = 'a.png'\n```\n\n![A picture](a.png)",
    ):
        page.write_text(f"A page.\n\n{block}\n", encoding="utf-8")
        with pytest.raises(AssertionError):
            check_page(page)


@pytest.mark.parametrize(
    ("shown", "printed", "expected"),
    [
        ("loss 0.500 at step 3", "loss  0.505 at step 3\n", True),
        ("loss 0.500 at step 3", "loss 0.520 at step 3", False),
        ("loss 0.500 at step 3", "loss nan at step 3", False),
        ("loss 0.5... at step 3", "loss 0.589 at step 3", True),
        ("loss 0.5... at step 3", "loss 0.489 at step 3", False),
        ("1.2 ms", "37.5 ms", True),
        ("1.2 mm", "37.5 mm", False),
        ("0.62 times per step", "0.60 times per step", False),
        ("first\n...\nlast 1", "first\nand so on\nlast 1", True),
        ("first\n...\nlast 1", "first\nlast 2", False),
        ("", "a warning", False),
    ],
)
def test_what_is_printed_is_compared(shown: str, printed: str, expected: bool) -> None:
    assert matches(shown, printed, PRINTED) is expected


@pytest.mark.parametrize(("shown", "printed"), [("loss 0.500", "loss 0.501"), ("1.2 ms", "1.3 ms"), ("1,000", "1000")])
def test_numbers_outside_tutorials_are_compared_exactly(shown: str, printed: str) -> None:
    assert matches(shown, shown)
    assert not matches(shown, printed)


def test_what_a_page_leaves_out_is_left_out_again() -> None:
    shown, printed = "loss 1.5\n...\n  best 1.2\n...", "loss 1.7\nstep 1\nstep 2\n  best 1.3\nrun: a\n"
    assert shorten(shown, printed) == "loss 1.7\n...\n  best 1.3\n..."
    assert shorten("gain 1.5\n...", printed) == printed


def test_outputs_are_written_into_the_pages_that_show_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    page, other = tmp_path / "page.md", tmp_path / "other.md"
    command = '```console title="Recorded: an hour"\n$ elman --version\nelman {}\n```\n'
    code = "```python\nprint(1 + 1)\n```\n"
    page.write_text(f"{code}\nThat is:\n\n{code}\n```text\n3\n```\n\n{command.format('0.0')}", encoding="utf-8")
    other.write_text(command.format("0.0"), encoding="utf-8")
    monkeypatch.setattr(recorded, "PAGES", [page, other])
    for block, printed, _ in run_page(page, with_recorded=True):
        recorded.write(page, block, printed)
    shown = f"{code}\n```text\n2\n```\n"
    last = command.format(elman.__version__)
    assert page.read_text(encoding="utf-8") == f"{shown}\nThat is:\n\n{shown}\n{last}"
    assert other.read_text(encoding="utf-8") == last
    check_page(page)


def test_trainings_that_are_shortened_in_tests_are_not_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    page = tmp_path / "page.md"
    text = '```console title="Recorded: an hour" tests="--epochs none"\n$ elman train image --out a\nanything\n```\n'
    page.write_text(text, encoding="utf-8")
    with pytest.raises(AssertionError, match="exit code 2"):
        check_page(page)
    page.write_text(text.replace("none", "1 --print-config"), encoding="utf-8")
    check_page(page)
