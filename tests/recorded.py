"""Run the examples of the documentation that take too long for the tests.

    python -m tests.recorded                             # list them
    python -m tests.recorded --data FOLDER               # run all
    python -m tests.recorded --data FOLDER tasks/tag     # those of pages whose path contains this

FOLDER has the data that the commands name; run folders are written into it. What differs from the page is printed.
"""

import argparse
import os
from pathlib import Path

from tests.doc_blocks import PAGES, ROOT, blocks, is_as, run_command


def main() -> int:
    """Return the number of commands that printed something else."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path)
    parser.add_argument("pages", nargs="*")
    given = parser.parse_args()
    different = 0
    if given.data:
        os.chdir(given.data)
    for page in PAGES:
        name = str(page.relative_to(ROOT))
        if given.pages and not any(part in name for part in given.pages):
            continue
        for block in blocks(page):
            for command, expected in block.commands if block.is_recorded else ():
                print(f"{name}: {block.title}: $ {command}", flush=True)
                if given.data:
                    printed = run_command(command)
                    if not is_as(expected, printed):
                        different += 1
                        print(f"expected:\n{expected}\ngot:\n{printed}", flush=True)
    return different


if __name__ == "__main__":
    raise SystemExit(main())
