"""Run pages of the documentation with all their examples, also those that take minutes or need other data.

    python -m tests.recorded list                              # the examples that the tests do not run
    python -m tests.recorded check --data FOLDER tasks/tag     # print what differs from the page
    python -m tests.recorded write --data FOLDER tasks/tag     # write what is printed, and the pictures, into the page

Pages are those whose path contains one of the words; without a word, all of them. FOLDER has the data that commands
name: each page runs in a process and a folder of its own, with links to the files of FOLDER and of the checkout.

Where a page leaves out lines with "...", `write` leaves them out too, unless more than numbers has changed; then
shorten by hand. Other pages that show the same recorded commands get the same outputs. Doctests are not written.
"""

import argparse
import contextlib
import os
import shutil
import textwrap
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.doc_blocks import PAGES, ROOT, WIDTH, Block, blocks, differences, matches, pictures, run_page, shorten

MAX_LINE = 116  # of outputs
OUTPUTS = {"build", "dist", "runs", "site"}  # what commands write in a checkout


def main() -> int:
    """Return the number of pages that differ."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("action", choices=("list", "check", "write"))
    parser.add_argument("--data", type=Path)
    parser.add_argument("pages", nargs="*", default=[""])
    arguments = parser.parse_intermixed_args()
    pages = [page for page in PAGES if any(part in _name(page) for part in arguments.pages)]
    if arguments.action == "list":
        for page in pages:
            for block in blocks(page):
                if block.is_recorded:
                    print(f"{_name(page)}: {block.title}")
                    print(textwrap.indent("\n".join(example.code for example in block.examples), "    $ "))
        return 0
    data = arguments.data and arguments.data.resolve()
    os.environ["COLUMNS"] = WIDTH
    different = 0
    for page in pages:
        # A process for each page: the peak of the memory of a process never falls. And nothing is compiled before.
        with TemporaryDirectory() as cache:
            os.environ["ELMAN_CACHE"] = cache
            with ProcessPoolExecutor(1, max_tasks_per_child=1) as pool:
                different += pool.submit(run_one, page, data, arguments.action == "write").result()
    return different


def run_one(page: Path, data: Path | None, is_written: bool) -> bool:
    """Run a page; print what differs, or write it into the page. Return whether something differs."""
    is_different = False
    with TemporaryDirectory() as folder, contextlib.chdir(folder):
        if any(block.is_recorded for block in blocks(page)):
            paths = [path for path in ROOT.iterdir() if path.name not in OUTPUTS]
            for name, path in {path.name: path for path in (*paths, *(data.iterdir() if data else ()))}.items():
                Path(name).symlink_to(path.resolve())
        start, start_cpu = time.perf_counter(), sum(os.times()[:4])
        for block, printed, _ in run_page(page, with_recorded=True):
            for difference in differences(page, block, printed, exactly=True):
                is_different = True
                print(difference, flush=True)
            if is_written:
                write(page, block, printed)
            if block.is_recorded:
                wall, cpu = time.perf_counter() - start, sum(os.times()[:4]) - start_cpu
                print(f"{_name(page)}, line {block.line}: {wall:.0f} s, {cpu:.0f} s of all CPUs", flush=True)
            start, start_cpu = time.perf_counter(), sum(os.times()[:4])
        for picture in pictures(page):
            if is_written:
                (page.parent / picture).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(picture, page.parent / picture)
            elif not Path(picture).exists():
                is_different = True
                print(f"{_name(page)}: {picture} was not made")
    return is_different


def write(page: Path, block: Block, printed: list[str]) -> None:
    """Write what a block printed into its page, and into pages that show the same recorded commands."""
    known = dict(zip((example.code for example in block.examples), printed, strict=True))
    _replace(page, block, printed)
    if block.is_recorded and block.language == "console":
        for other in PAGES:
            for twin in blocks(other) if other != page else ():
                if twin.is_recorded and twin.examples and all(example.code in known for example in twin.examples):
                    _replace(other, twin, [known[example.code] for example in twin.examples])


def _replace(page: Path, block: Block, printed: list[str]) -> None:
    """Write outputs into a block of a page, except those that match."""
    outputs = [
        shown.strip("\n") if matches(shown, new) else _wrap(shorten(shown, new).strip("\n").splitlines())
        for (_, shown), new in zip(block.examples, printed, strict=True)
    ]
    text = page.read_text(encoding="utf-8")
    start, end = next(now.span for now in blocks(page) if now.number == block.number)  # blocks above may have changed
    head = text[start:end].partition("\n")[0]
    assert head.startswith("```"), f"{_name(page)}, line {block.line}: blocks in lists and tabs are not written"
    if block.language == "python":
        new = f"{head}\n{block.code}```" + (f"\n\n```text\n{outputs[0]}\n```" if outputs[0] else "")
    elif block.language == "console":
        pairs = zip(block.examples, outputs, strict=True)
        texts = (f"$ {code}\n{output}" + "\n" * bool(output) for (code, _), output in pairs)
        new = f"{head}\n{''.join(texts)}```"
    else:
        return
    page.write_text(text[:start] + new + text[end:], encoding="utf-8")


def _wrap(lines: Iterable[str]) -> str:
    """Wrap lines that are too wide for a page; continuation lines are indented like the line."""
    return "\n".join(
        "\n".join(textwrap.wrap(line, MAX_LINE, subsequent_indent=" " * (len(line) - len(line.lstrip()))))
        if len(line) > MAX_LINE
        else line.rstrip()
        for line in lines
    )


def _name(page: Path) -> str:
    return str(page.relative_to(ROOT))


if __name__ == "__main__":
    raise SystemExit(main())
