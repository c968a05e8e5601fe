"""An extension of griffe, which reads docstrings for the reference: examples in docstrings become blocks of code."""

import re
from typing import Any

import griffe

EXAMPLE = re.compile(r"^>>> .*\n(?:.+\n?)*(?:\n>>> .*\n(?:.+\n?)*)*", re.MULTILINE)
DIRECTIVE = re.compile(r" *# doctest: .*$", re.MULTILINE)


def readable(example: str) -> str:
    """An example without what only doctest reads."""
    return DIRECTIVE.sub("", example).replace("<BLANKLINE>", "")


class Examples(griffe.Extension):
    """Fences the examples of each docstring."""

    def on_instance(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Change the docstring of an object as soon as it is read."""
        if obj.docstring is not None:
            text = obj.docstring.value + "\n"
            obj.docstring.value = EXAMPLE.sub(lambda m: f"```pycon\n{readable(m[0]).rstrip()}\n```\n\n", text)
