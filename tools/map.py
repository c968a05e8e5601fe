"""The map of the package: `python tools/map.py` prints its rooms, who imports whom, and what a call goes through.

A room is a folder of the package, or one of its top-level modules. An arrow leads from a room to another that it
imports; a floor is one more than the highest room that is imported. An arrow is upward if it leads to a room that
stands higher in the layers of `[tool.importlinter]` in pyproject.toml.
"""

import sys
import tomllib
from collections import defaultdict
from pathlib import Path
from types import FrameType

import grimp

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # this checkout, whatever is installed
ENGINE = ("engine", "layers", "bptt", "flow", "cells")  # what the engine part of the figures counts


def room_of(module: str, packages: set[str]) -> str:
    """The folder of a module; a top-level module is its own room."""
    name = module if module in packages or module.count(".") == 1 else module.rpartition(".")[0]
    return name.removeprefix("elman.")


def lines(module: str) -> int:
    """Lines of a module's file."""
    path = ROOT / module.replace(".", "/")
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return len(file.read_text(encoding="utf-8").splitlines()) if file.exists() else 0  # a folder of pages


def cycles(arrows: dict[str, set[str]]) -> list[list[str]]:
    """Groups that import each other in a circle (Tarjan's strongly connected components of more than one)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    components: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in sorted(arrows.get(node, ())):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            component: list[str] = []
            while not component or component[-1] != node:
                component.append(stack.pop())
            components.append(sorted(component))

    for node in sorted(arrows):
        if node not in index:
            visit(node)
    return [component for component in components if len(component) > 1]


def floors(arrows: dict[str, set[str]]) -> dict[str, int]:
    """The floor of each room, from 1 up; rooms in a circle stand on one floor."""
    height: dict[str, int] = {}

    def climb(room: str, below: frozenset[str]) -> int:
        if room not in height:
            under = [climb(other, below | {room}) for other in arrows.get(room, ()) if other not in below]
            height[room] = 1 + max(under, default=0)
        return height[room]

    for room in arrows:
        climb(room, frozenset())
    return height


def order() -> list[set[str]]:
    """The layers that are declared in pyproject.toml, highest first."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    return [
        {name.strip(" ()").removeprefix("elman.") for name in layer.replace(":", "|").split("|")} for layer in layers
    ]


def figures(title: str, rooms: dict[str, list[str]], arrows: dict[str, set[str]], modules: dict[str, set[str]]) -> None:
    """Print the figures of some rooms."""
    level = {room: -i for i, names in enumerate(order()) for room in names}

    def standing(room: str) -> int:
        while room not in level and "." in room:
            room = room.rpartition(".")[0]
        return level.get(room, -len(level))  # what is not in the contract stands at the bottom

    upward = [(a, b) for a, others in arrows.items() for b in others if standing(b) > standing(a)]
    count = sum(map(len, arrows.values()))
    total = sum(lines(module) for names in rooms.values() for module in names)
    print(
        f"\n{title}: {len(rooms)} rooms, {max(floors(arrows).values(), default=0)} floors, {count} arrows, "
        f"{len(upward)} upward, {len(cycles(arrows))} cycles of rooms, {len(cycles(modules))} cycles of files, "
        f"{total:,} lines"
    )
    for a, b in upward:
        print(f"  upward: {a} -> {b}")
    for group in cycles(modules):
        print(f"  cycle: {' '.join(group)}")


def package() -> None:
    """Print the rooms of the package, and the figures."""
    graph = grimp.build_graph("elman", exclude_type_checking_imports=True, cache_dir=None)
    packages = {module for module in graph.modules if (ROOT / module.replace(".", "/")).is_dir()}
    rooms: dict[str, list[str]] = defaultdict(list)
    arrows: dict[str, set[str]] = {}
    modules: dict[str, set[str]] = {}
    for module in sorted(graph.modules - {"elman"}):
        room = room_of(module, packages)
        rooms[room].append(module)
        imported = graph.find_modules_directly_imported_by(module) - {"elman"}
        modules[module] = set(imported)
        arrows.setdefault(room, set()).update({room_of(other, packages) for other in imported} - {room})
    floor = floors(arrows)
    for room in sorted(rooms, key=lambda room: (-floor[room], room)):
        size, others = sum(map(lines, rooms[room])), " ".join(sorted(arrows[room]))
        print(f"{floor[room]:>3}  {room:<24} {len(rooms[room]):>3} files {size:>6} lines  -> {others}")
    figures("The package", rooms, arrows, modules)

    def of_engine(name: str) -> bool:
        return name.removeprefix("elman.").partition(".")[0] in ENGINE

    figures(
        f"The engine part ({', '.join(ENGINE)})",
        {room: names for room, names in rooms.items() if of_engine(room)},
        {room: {other for other in others if of_engine(other)} for room, others in arrows.items() if of_engine(room)},
        {name: {other for other in others if of_engine(other)} for name, others in modules.items() if of_engine(name)},
    )


def call() -> None:
    """Print the files of ours that a warm call of a layer, forward and backward, goes through."""
    import torch

    import elman

    layer, x = elman.GRU(3, 5, num_layers=2), torch.randn(7, 2, 3)

    def once() -> None:
        layer(x)[0].sum().backward()

    once()
    once()
    files: dict[str, None] = {}

    def watch(frame: FrameType, event: str, argument: object) -> None:
        path = Path(frame.f_code.co_filename)
        if event == "call" and path.is_relative_to(ROOT / "elman"):
            files[str(path.relative_to(ROOT))] = None

    sys.setprofile(watch)
    once()
    sys.setprofile(None)
    print(f"\nA warm call, forward and backward: {len(files)} files")
    for file in files:
        print(f"  {file}")


if __name__ == "__main__":
    package()
    call()
