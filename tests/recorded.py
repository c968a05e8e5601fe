"""Run the examples of the documentation that the tests do not run: they take minutes, or need other packages.

    python -m tests.recorded                             # list them
    python -m tests.recorded --data FOLDER               # run all
    python -m tests.recorded --data FOLDER tasks/tag     # those of pages whose path contains this

FOLDER has the data that the commands name. Each page runs in a temporary folder with links to the files of FOLDER and
of the checkout. What differs from the page is printed.
"""

import argparse
import contextlib
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.doc_blocks import PAGES, ROOT, Block, blocks, is_as, run_command, run_page


def main() -> int:
    """Return the number of examples that printed something else or failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path)
    parser.add_argument("pages", nargs="*", default=[""])
    arguments = parser.parse_args()
    data = arguments.data and arguments.data.resolve()
    different = 0
    for page in PAGES:
        name = str(page.relative_to(ROOT))
        recorded = [block for block in blocks(page) if block.is_recorded]
        if recorded and any(part in name for part in arguments.pages):
            for block in recorded:
                print(f"{name}: {block.title}", *(f"    $ {command}" for command, _ in block.commands), sep="\n")
            if data:
                with TemporaryDirectory() as folder, contextlib.chdir(folder):
                    for file, path in {path.name: path for path in (*ROOT.iterdir(), *data.iterdir())}.items():
                        Path(file).symlink_to(path.resolve())
                    for difference in differences(page, recorded):
                        different += 1
                        print(difference, flush=True)
    return different


def differences(page: Path, recorded: list[Block]) -> Iterator[str]:
    """Run the recorded blocks of a page; yield what differs."""
    for command, expected in (pair for block in recorded for pair in block.commands):
        printed = run_command(command)
        if not is_as(expected, printed):
            yield f"$ {command}\nexpected:\n{expected}\ngot:\n{printed}"
    if any(block.language in ("python", "pycon") for block in recorded):  # which need the blocks before them
        try:
            run_page(page, with_recorded=True)
        except AssertionError as error:
            yield str(error)


if __name__ == "__main__":
    raise SystemExit(main())
