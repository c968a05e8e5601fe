"""Every example in the documentation is run, and prints what the page says."""

import re
import runpy
from pathlib import Path

import pytest

from tests.doc_blocks import FENCE, PAGES, ROOT, blocks, check_usage, run_page

OWN_TESTS = ("docs/new_task.md", "docs/tutorials/")  # tests/test_new_task.py, tests/test_tutorials.py
LANGUAGES = {"pycon", "python", "console", "sh", "text", "csv", "json", "toml", "yaml", "tsv"}
EXAMPLES = [page for page in PAGES if not str(page.relative_to(ROOT)).startswith(OWN_TESTS)]


def _name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.filterwarnings("ignore:::lightning", "ignore:.*LeafSpec:FutureWarning")  # Lightning's own
@pytest.mark.parametrize("page", EXAMPLES, ids=_name)
def test_a_page_prints_what_it_says(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run_page(page)


@pytest.mark.parametrize("page", EXAMPLES, ids=_name)
def test_commands_are_accepted(page: Path) -> None:
    for block in blocks(page):
        if block.language == "sh":
            for line in block.code.splitlines():
                check_usage(line)
        for command, _ in block.commands if block.is_recorded else ():
            check_usage(command)


@pytest.mark.parametrize("page", EXAMPLES, ids=_name)
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


def test_a_wrong_output_fails(tmp_path: Path) -> None:
    for block in (
        "```pycon\n>>> 1 + 1\n3\n```",
        "```console\n$ elman --version\nelman 0.0\n```",
        "```python\nassert 1 + 1 == 3\n```",
    ):
        page = tmp_path / "page.md"
        page.write_text(f"A page.\n\n{block}\n", encoding="utf-8")
        with pytest.raises(AssertionError):
            run_page(page)
