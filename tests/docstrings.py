"""The public names of elman, and what their docstrings lack.

Docstrings have Google's sections. A class or function documents every parameter of its signature, and no other; it says
what it returns and which exceptions it raises, and has an example. A summary that begins with "Return" or "Yield" takes
the place of that section. A class may leave parameters to a public base class that its docstring names. Methods may
name their parameters anywhere in the docstring, and inherit docstrings. No docstring of the package, public or not, has
a section twice, or a parameter twice in a section.
"""

import ast
import dataclasses
import functools
import inspect
import re
import textwrap
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import FunctionType
from typing import Any

import griffe

import elman
from elman.cells import REGISTRY, by_name
from elman.tasks.registry import NAMES

ROOMS = ("bptt", "engine", "flow", "flow.plots", "serve", "sklearn", "tasks", "tune", "weights")
TASK_FUNCTIONS = ("fit", "evaluate", "predict", "generate", "load")
RETURNED = (  # classes of which users only get objects
    "description.Description",
    "flow.credit.Credit",
    "flow.diagnosis.Finding",
    "flow.diagnosis.Verdict",
    "flow.history.HistoryRow",
    "flow.jacobians.Jacobians",
    "flow.units.Gate",
    "layers._trajectory.Trajectory",
    "layers.convert.Conversion",
    "layers.convert.LayerConversion",
)


def public_objects() -> dict[str, Any]:
    """All public classes and functions, by the name under which users find them."""
    values = {f"elman.{name}": getattr(elman, name) for name in elman.__all__}
    values |= {f"elman.cells.{by_name(name).__name__}": by_name(name) for name in REGISTRY}
    values["elman.cells.by_name"] = by_name
    for room in ROOMS:
        module = import_module(f"elman.{room}")
        values |= {f"elman.{room}.{name}": getattr(module, name) for name in getattr(module, "__all__", vars(module))}
    for task in NAMES:
        module = import_module(f"elman.tasks.{task}")
        values |= {
            f"{module.__name__}.{name}": getattr(module, name) for name in TASK_FUNCTIONS if name in vars(module)
        }
    for path in RETURNED:
        module_name, _, name = f"elman.{path}".rpartition(".")
        values[f"elman.{path}"] = getattr(import_module(module_name), name)
    return {name: value for name, value in values.items() if _is_public(name, value)}


def _is_public(name: str, value: Any) -> bool:
    if name.startswith("elman.flow.plots") and value.__class__ is FunctionType:
        return value.__module__ == "elman.flow.plots" and not value.__name__.startswith("_")
    is_code = inspect.isclass(value) or inspect.isfunction(value)
    return is_code and value.__module__.startswith("elman") and not name.startswith("elman.flow.plots")


def public_methods() -> dict[str, tuple[type, str]]:
    """The methods and properties that public classes, and their base classes in elman, define or override."""
    methods = {}
    for value in public_objects().values():
        bases = inspect.getmro(value) if inspect.isclass(value) else ()
        for cls in (base for base in bases if base.__module__.startswith("elman")):
            for name, attribute in vars(cls).items():
                if not name.startswith("_") and _function_of(attribute) is not None:
                    methods[f"{cls.__module__}.{cls.__name__}.{name}"] = (cls, name)
    return methods


def _function_of(attribute: Any) -> FunctionType | None:
    """The function of a method or property of elman; None for other attributes."""
    function = getattr(attribute, "fget", None) or getattr(attribute, "func", None) or attribute
    function = getattr(function, "__func__", function)
    is_ours = isinstance(function, FunctionType) and function.__module__.startswith("elman")
    return function if is_ours else None


class Docstring:
    """The parameters, attributes, exceptions and results that a docstring documents.

    Args:
        text: the docstring, without indentation.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.parameters, self.attributes, self.raised = set[str](), set[str](), set[str]()
        self.returns = text.startswith(("Return", "Yield"))
        for section in griffe.Docstring(text, parser="google").parse(warnings=False):
            match section.kind:
                case griffe.DocstringSectionKind.parameters:
                    self.parameters |= {item.name.lstrip("*") for item in section.value}
                case griffe.DocstringSectionKind.attributes:
                    self.attributes |= {item.name for item in section.value}
                case griffe.DocstringSectionKind.raises:
                    self.raised |= {str(item.annotation) for item in section.value}
                case griffe.DocstringSectionKind.returns | griffe.DocstringSectionKind.yields:
                    self.returns = True


def package_docstrings() -> dict[str, str]:
    """All docstrings of the source files of elman, by file and name."""
    folder, docstrings = Path(elman.__file__).parent, dict[str, str]()
    for path in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                line = getattr(node, "lineno", 1)
                docstrings[f"{path.relative_to(folder)}:{line}"] = ast.get_docstring(node) or ""
    return docstrings


def repetitions(text: str) -> list[str]:
    """Return the sections that a docstring has twice, and the entries that a section has twice."""
    problems, sections, section, entries = list[str](), set[str](), "", set[str]()
    for line in text.splitlines():
        if heading := re.fullmatch(r"(Args|Attributes|Returns|Yields|Raises):", line):
            section, entries = heading[1], set()
            problems += [f"{section} twice"] if section in sections else []
            sections.add(section)
        elif line and not line.startswith(" "):
            section = ""
        elif section in ("Args", "Attributes") and (entry := re.match(r" {4}(\*{0,2}\w+): ", line)):
            problems += [f"{section}: {entry[1]} twice"] if entry[1] in entries else []
            entries.add(entry[1])
    return problems


def lacks(name: str, value: Any) -> list[str]:
    """Return the problems of the docstring of a public class or function."""
    if not value.__doc__:
        return ["no docstring"]
    docstring = Docstring(inspect.getdoc(value) or "")
    if inspect.isclass(value):
        is_generated = dataclasses.is_dataclass(value)  # its __init__, which raises nothing
        constructor = vars(value).get("__post_init__" if is_generated else "__init__")
        problems = [*_parameters(value, docstring, _of_bases(value, docstring)), *_exceptions(constructor, docstring)]
    else:
        problems = [*_parameters(value, docstring, set()), *_exceptions(value, docstring), *_result(value, docstring)]
    if ">>> " not in docstring.text and name.removeprefix("elman.") not in RETURNED and not _package_has_example(name):
        problems.append("no example")
    return problems


def method_lacks(cls: type, name: str) -> list[str]:
    """Return the problems of the docstring of a method or property, or of the one that it inherits."""
    attribute = inspect.getattr_static(cls, name)
    function, text = _function_of(attribute), inspect.getdoc(getattr(cls, name))
    assert function is not None
    if text is None:
        return ["no docstring"]
    docstring, parameters = Docstring(text), set(inspect.signature(function).parameters) - {"self", "cls"}
    unnamed = sorted(parameter for parameter in parameters if not re.search(rf"\b{parameter}\b", text))
    problems = [f"parameters not documented: {', '.join(unnamed)}"] if unnamed else []
    if unknown := sorted(docstring.parameters - parameters):
        problems.append(f"parameters that do not exist: {', '.join(unknown)}")
    is_value = isinstance(attribute, property | functools.cached_property)
    return [*problems, *([] if is_value else _result(function, docstring)), *_exceptions(function, docstring)]


def _of_bases(cls: type, docstring: Docstring) -> set[str]:
    """The parameters that are documented by public base classes that the docstring names."""
    bases = [base for base in cls.__mro__[1:] if f"`{base.__name__}`" in docstring.text]
    return set().union(*(Docstring(inspect.getdoc(base) or "").parameters for base in bases))


def _parameters(value: Any, docstring: Docstring, documented_by_bases: set[str]) -> Iterator[str]:
    signature = set(inspect.signature(value).parameters)
    if missing := sorted(signature - docstring.parameters - docstring.attributes - documented_by_bases):
        yield f"parameters not documented: {', '.join(missing)}"
    if unknown := sorted(docstring.parameters - signature):
        yield f"parameters that do not exist: {', '.join(unknown)}"


def _result(function: Any, docstring: Docstring) -> Iterator[str]:
    if inspect.signature(function).return_annotation not in (None, "None") and not docstring.returns:
        yield "no Returns"


def _exceptions(function: Any, docstring: Docstring) -> Iterator[str]:
    if isinstance(function, FunctionType) and (missing := sorted(_raised_by(function) - docstring.raised)):
        yield f"exceptions not documented: {', '.join(missing)}"


@functools.cache
def _raised_by(function: FunctionType, depth: int = 1) -> frozenset[str]:
    """The names of the exceptions that a function raises, or a function of elman that it calls by its name."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    names = set[str]()
    for node in ast.walk(tree):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and isinstance(node.exc.func, ast.Name):
            names.add(node.exc.func.id)
        elif depth and isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            called = function.__globals__.get(node.func.id)
            if isinstance(called, FunctionType) and called.__module__.startswith("elman"):
                names |= _raised_by(called, depth - 1)
    return frozenset(names - {"NotImplementedError"})


def _package_has_example(name: str) -> bool:
    """Whether the docstring of a task's package has an example, which shows all of its functions."""
    package, _, function = name.rpartition(".")
    return function in TASK_FUNCTIONS and package != "elman.tasks" and ">>> " in (import_module(package).__doc__ or "")
