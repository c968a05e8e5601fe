"""Hooks of MkDocs (mkdocs.yml): links to files outside docs/, and the tables that are generated from the code.

A comment in a page is replaced by what it names:

    <!-- options of elman train image -->    a table of the options of a command
    <!-- all commands -->                    every command with its options
    <!-- operations -->                      the operations that a cell may use
    <!-- export operations -->               what exporters make of these operations
    <!-- export cells -->                    what exporters make of the registered cells
    <!-- default spaces -->                  what `elman tune` searches, by task

A link from a page to a file of the checkout, such as `../examples/own_cell.py`, leads to a page that shows the file.
"""

import posixpath
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]  # this checkout, whatever is installed

import docs_examples  # noqa: E402
import export_table  # noqa: E402
import operations_table  # noqa: E402
import typer  # noqa: E402

from elman.cli import app  # noqa: E402
from elman.tasks.registry import NAMES, options_of  # noqa: E402
from elman.tune.space import default_space, description  # noqa: E402

SOURCE = "source"  # folder of the site for files that are not in docs/
LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^)#\s]*)((?:#[^)\s]*)?)(?=\))")
FENCE = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
COMMENT = re.compile(r"^<!-- (.+?) -->$", re.MULTILINE)
LANGUAGES = {".py": "python", ".toml": "toml"}


def _pages(nav: Any) -> Iterator[str]:
    if isinstance(nav, str):
        yield nav
    else:
        for item in nav.values() if isinstance(nav, dict) else nav or ():
            yield from _pages(item)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the files outside docs/ that pages link to, and the files that those link to."""
    paths = [f"docs/{file.src_uri}" for file in files.documentation_pages()]
    paths += [page.removeprefix(f"{SOURCE}/") for page in _pages(config.nav) if page.startswith(f"{SOURCE}/")]
    seen = set(paths)
    while paths:
        path = paths.pop()
        if not path.startswith("docs/"):
            files.append(_as_page(path, config))
        for target in _targets(path):
            if target not in seen and (ROOT / target).exists() and not target.startswith("docs/"):
                seen.add(target)
                paths.append(target)
    return files


def _as_page(path: str, config: MkDocsConfig) -> File:
    """A file of the site that shows a file or a folder of the checkout."""
    source = ROOT / path
    if source.suffix in (".png", ".svg"):
        return File.generated(config, f"{SOURCE}/{path}", abs_src_path=str(source))
    if source.suffix == ".md":
        text = source.read_text(encoding="utf-8")
    elif source.is_dir():
        links = (posixpath.relpath(file, posixpath.dirname(path) or ".") for file in _listed(path))
        text = f"# {path}\n\n" + "".join(f"- [{posixpath.basename(link)}]({link})\n" for link in links)
    else:
        text = f"# {path}\n\n```{LANGUAGES.get(source.suffix, 'text')}\n{source.read_text(encoding='utf-8')}```\n"
    if source.suffix != ".md":  # neither searched nor beside a menu
        text = f"---\nsearch:\n  exclude: true\nhide: [navigation, toc]\n---\n{text}"
    return File.generated(config, _uri(path), content=text)


def _uri(path: str) -> str:
    """The path in the site of a path in the checkout."""
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    suffix = "" if path.endswith((".md", ".png", ".svg")) else ".md"
    return f"{SOURCE}/{path}{suffix}"


def _path(uri: str) -> str:
    """The path in the checkout of a page of the site."""
    if not uri.startswith(f"{SOURCE}/"):
        return f"docs/{uri}"
    path = uri.removeprefix(f"{SOURCE}/")
    return path if (ROOT / path).is_file() else path.removesuffix(".md")


def _targets(path: str) -> Iterator[str]:
    """The paths that a page links to; of a folder, its files."""
    if (ROOT / path).is_dir():
        yield from _listed(path)
    elif path.endswith(".md"):
        text = FENCE.sub("", (ROOT / path).read_text(encoding="utf-8"))
        yield from (_resolved(path, link[1]) for link in LINK.finditer(text))


def _listed(folder: str) -> list[str]:
    """The files in a folder that its page lists."""
    files = (file for file in (ROOT / folder).iterdir() if file.suffix in (".py", ".txt", ".md"))
    return sorted(str(file.relative_to(ROOT)) for file in files)


def _resolved(path: str, link: str) -> str:
    return posixpath.normpath(posixpath.join(posixpath.dirname(path), link))


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Insert the generated tables; let links out of docs/ lead into the site."""
    path, here = _path(page.file.src_uri), posixpath.dirname(page.file.src_uri)

    def within(link: re.Match[str]) -> str:
        target = _resolved(path, link[1])
        if path.startswith("docs/") and target.startswith("docs/"):
            return link[0]
        return posixpath.relpath(_uri(target), here or ".") + link[2]

    fences = map(docs_examples.readable, FENCE.findall(markdown))
    texts = [LINK.sub(within, text) for text in FENCE.split(markdown)]
    markdown = "".join(part for pair in zip(texts, [*fences, ""], strict=True) for part in pair)
    return COMMENT.sub(lambda comment: _generated(comment[1], page), markdown)


def _generated(name: str, page: Page) -> str:
    if name == "operations":
        return operations_table.table()
    if name == "export operations":
        return export_table.table()
    if name == "export cells":
        return export_table.cells_table()
    if name == "all commands":
        return "\n\n".join(_commands())
    if name == "default spaces":
        return "\n".join(_spaces())
    if name.startswith("options of elman "):
        words = name.removeprefix("options of elman ").split()
        command = typer.main.get_command(app)
        for word in words:
            command = command.commands[word]  # type: ignore[attr-defined]
        return "\n".join(_options(command, " ".join(["elman", *words])))
    raise PluginError(f"{page.file.src_uri}: expected a comment that tools/docs_site.py knows, got {name!r}")


def _commands() -> Iterator[str]:
    """A section for each command."""

    def walk(command: Any, name: str) -> Iterator[tuple[str, Any]]:
        if hasattr(command, "commands"):
            for word in command.list_commands(None):
                yield from walk(command.commands[word], f"{name} {word}")
        else:
            yield name, command

    for name, command in walk(typer.main.get_command(app), "elman"):
        yield f"## `{name}`\n\n{_with_code(command.help)}\n\n" + "\n".join(_options(command, name))


def _spaces() -> Iterator[str]:
    """A table of the default spaces of all tasks."""
    yield from ("| task | default space |", "|---|---|")
    for task in NAMES:
        space = description(default_space(options_of(task)))
        yield f"| `{task}` | {', '.join(f'`{name}={values}`' for name, values in space.items())} |"


def _options(command: Any, name: str) -> Iterator[str]:
    """A table of the arguments and options of a command, by the panels of its help."""
    context = command.make_context(name, [], resilient_parsing=True)
    panels: dict[str, list[Any]] = {}
    for parameter in command.get_params(context):
        if getattr(parameter, "hidden", False):
            continue
        if parameter.param_type_name == "argument":
            panels.setdefault("Arguments", []).append(parameter)
        elif "--help" not in parameter.opts and not {"--quiet", "--verbose"} & set(parameter.opts):
            panels.setdefault(getattr(parameter, "rich_help_panel", None) or "Options", []).append(parameter)
    for title, parameters in panels.items():
        yield from (f"| {title} | description | default |", "|---|---|---|")
        for parameter in parameters:
            names, _ = parameter.get_help_record(context)
            yield f"| `{names}` | {_cell(parameter.help)} | {_cell(_default(parameter, context))} |"
        yield ""


def _default(parameter: Any, context: Any) -> str:
    if parameter.required:
        return "required"
    if isinstance(parameter.show_default, str):
        return parameter.show_default
    if not parameter.show_default or parameter.default in (None, "") or getattr(parameter, "is_flag", False):
        return ""
    return f"`{parameter.default}`"


def _cell(text: str) -> str:
    """A text as a cell of a table."""
    return _with_code(text).replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")


def _with_code(text: str) -> str:
    """A text of the help, with the names of options as code."""
    return re.sub(r"(?<![`\w])--[a-z][\w-]*", r"`\g<0>`", text)
