"""A page taken apart."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any


class Page(HTMLParser):
    """What is in a page: tags with their attributes, texts by the tag around them, figures by name."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.figures: dict[str, dict[str, Any]] = {}
        self._open: list[tuple[str, dict[str, str | None]]] = [("", {})]
        self.feed(html)
        self.close()

    @classmethod
    def at(cls, path: Path) -> "Page":
        return cls(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "input", "br", "path"):
            self._open.append(self.tags[-1])

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        self._open.pop()

    def handle_data(self, data: str) -> None:
        tag, attributes = self._open[-1]
        if attributes.get("type") == "application/json":
            name = str(attributes["id"]).removesuffix("-figure")
            self.figures[name] = json.loads(data, parse_constant=lambda constant: pytest_fail(constant))
        else:
            self.texts.append((tag, data))

    def all(self, tag: str) -> list[str]:
        """The texts directly in such a tag."""
        return [text for of, text in self.texts if of == tag]

    @property
    def text(self) -> str:
        """All that is there to be read, with single blanks."""
        return " ".join(" ".join(text for of, text in self.texts if of not in ("script", "style")).split())


def pytest_fail(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")


def colours_given(figure: dict[str, Any]) -> Any:
    """A figure as plotly takes it: without the names of the style sheet."""
    return json.loads(re.sub(r"var\(--[\w-]+\)", "#123456", json.dumps(figure)))
