"""Every promise of docs/promises.md has its test; and those that no other file of tests holds."""

import ast
import functools
import re
from pathlib import Path

import pytest

import elman
from elman.engine.cpu import jit
from tests.public_api import RECORD, public_api

TESTS = Path(__file__).parent
ROOT, PACKAGE = TESTS.parent, Path(elman.__file__).parent
PAGE = ROOT / "docs" / "promises.md"

# Here pickle reads what elman itself wrote: to an anonymous file, or for the processes that it started.
UNPICKLING = {"data/disk_list.py", "tasks/worker.py"}


def rows() -> list[tuple[str, str, str]]:
    """The rows of the tables of the page: the promise, its bound, its tests."""
    cells = re.findall(r"^\| ([^|\n]*) \| ([^|\n]*)\| ([^|\n]*) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    return [row for row in cells if row[0] != "promise"]


@functools.cache
def trees() -> dict[Path, ast.Module]:
    """The syntax tree of each file of the package."""
    return {path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(PACKAGE.rglob("*.py"))}


@functools.cache
def functions(file: str) -> set[str]:
    """The test functions of a file."""
    path = TESTS / file
    tree = ast.parse(path.read_text(encoding="utf-8") if path.exists() else "")
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


def unknown_tests(cell: str) -> list[str]:
    """What stands in a cell of tests and is none."""
    parts = [re.fullmatch(r"`([\w/]+\.py)::(test_\w+)`", part) or part for part in cell.split()]
    return [str(part) for part in parts if isinstance(part, str)] + [
        part[0] for part in parts if not isinstance(part, str) and part[2] not in functions(part[1])
    ]


def test_every_promise_has_its_test() -> None:
    table = rows()
    text = PAGE.read_text(encoding="utf-8")
    # As many as there are lines of tables, less the two lines of each head.
    lines, heads = (len(re.findall(start, text, re.MULTILINE)) for start in (r"^\|", r"^\|---"))
    assert len(table) == lines - 2 * heads
    assert len(table) > 50
    for promise, _, tests in table:
        assert promise.endswith("."), promise
        assert tests, promise
        assert unknown_tests(tests) == [], promise


@pytest.mark.parametrize("cell", ["`test_promises.py::test_of_nothing`", "`test_of_nothing.py::test_a`", "nobody"])
def test_a_promise_without_a_test_is_found(cell: str) -> None:
    assert unknown_tests(f"`test_promises.py::test_every_promise_has_its_test` {cell}") == [cell]


def test_the_page_is_in_the_navigation() -> None:
    assert re.search(r"^ +- promises\.md$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE)
    for page in ("limits.md", "security.md", "get_started/install.md"):
        assert "promises.md" in (ROOT / "docs" / page).read_text(encoding="utf-8"), page


def test_the_public_names_are_those_that_were_recorded() -> None:
    recorded, now = RECORD.read_text(encoding="utf-8").splitlines(), public_api()
    gone, new = ([line for line in a if line not in set(b)] for a, b in ((recorded, now), (now, recorded)))
    assert (gone, new) == ([], []), (
        "a public name that changes or disappears warns for one minor release first (docs/promises.md); "
        "record what is new: python -m tests.public_api"
    )


def test_deprecated_names_end_in_a_later_release() -> None:
    """Each says which name takes its place, and the release in which it ends: then it is removed."""
    ends = list[tuple[int, ...]]()
    for path, tree in trees().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "deprecated":
                message, category = ast.literal_eval(node.args[0]), {k.arg: k.value for k in node.keywords}["category"]
                match = re.fullmatch(
                    r"elman\S* is deprecated and will be removed in ([\d.]+); use elman\S* instead", message
                )
                assert match, f"{path}: {message}"
                assert getattr(category, "id", "") == "FutureWarning", path
                ends.append(tuple(map(int, match[1].split("."))))
    assert ends  # of elman.explain; without any, nothing here is tested
    now = tuple(map(int, re.findall(r"\d+", elman.__version__)[:2]))
    assert min(ends) > now


def test_no_file_of_others_is_unpickled() -> None:
    """Neither by pickle, nor by those who call it."""
    for path, tree in trees().items():
        name = path.relative_to(PACKAGE).as_posix()
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            called = f"{getattr(node.func.value, 'id', '')}.{node.func.attr}"
            if called in ("pickle.load", "pickle.loads", "pickle.Unpickler"):
                assert name in UNPICKLING, f"{name}:{node.lineno}"
            assert called not in ("joblib.load", "dill.load", "dill.loads", "marshal.loads", "shelve.open")
            given = {keyword.arg: getattr(keyword.value, "value", None) for keyword in node.keywords}
            if called in ("torch.load", "np.load"):
                assert given.get("weights_only") is True or given.get("allow_pickle") is False, f"{name}:{node.lineno}"


def test_compiled_code_belongs_to_a_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of elman's own code, of LLVM, and to a machine."""
    monkeypatch.setenv("ELMAN_CACHE", str(tmp_path))
    monkeypatch.setattr(jit, "machine_code", lambda host, text: b"code")
    monkeypatch.setattr(jit, "CompiledModule", lambda *_: None)

    def compile_one(host: jit.Host) -> int:
        """How many files the cache has, once a module is compiled or read."""
        jit.compile_module(host, "name", "key", lambda module: None, [])
        return len(list(tmp_path.glob("name-*.o")))

    host = jit.this_machine()
    assert [compile_one(host), compile_one(host)] == [1, 1]
    with monkeypatch.context() as patch:
        patch.setattr(jit, "_source_digest", lambda: "another version")
        assert compile_one(host) == 2
    with monkeypatch.context() as patch:
        patch.setattr("llvmlite.__version__", "0.0")
        assert compile_one(host) == 3
    assert compile_one(jit.Host(host.triple, "another", host.features, host.vector_bytes)) == 4
    assert compile_one(host) == 4
