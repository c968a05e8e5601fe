"""An extension of griffe, which reads docstrings for the reference (mkdocs.yml).

Examples in docstrings become blocks of code. The functions of the tasks, whose signatures and docstrings are made from
options when elman is imported, are read from the imported modules.
"""

import re
import sys
from pathlib import Path
from typing import Any

import griffe

sys.path.insert(0, str(Path(__file__).parents[1]))  # this checkout, whatever is installed

from elman.tasks.registry import TASKS

EXAMPLE = re.compile(r"^>>> .*\n(?:.+\n?)*(?:\n>>> .*\n(?:.+\n?)*)*", re.MULTILINE)
DIRECTIVE = re.compile(r' *# doctest: .*$|(?<=") tests="[^"]*"$', re.MULTILINE)


def readable(example: str) -> str:
    """Return an example without what only doctest and tests/doc_blocks.py read."""
    return DIRECTIVE.sub("", example).replace("<BLANKLINE>", "")


class Docstrings(griffe.Extension):
    """Fences the examples of each docstring; adds the functions of the tasks."""

    def on_instance(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Change the docstring of an object as soon as it is read."""
        if obj.docstring is not None:
            text = obj.docstring.value + "\n"
            obj.docstring.value = EXAMPLE.sub(lambda m: f"```pycon\n{readable(m[0]).rstrip()}\n```\n\n", text)

    def on_package(self, *, pkg: griffe.Module, **kwargs: Any) -> None:
        """Replace what was read of the functions of the tasks."""
        for task, name in TASKS.items() if pkg.path == "elman" else ():
            for member in griffe.inspect(name).members.values():
                if isinstance(member, griffe.Function):
                    pkg.set_member(f"tasks.{task}.{member.name}", member)
