"""Turns the stages of a program into passes: what one kernel launch, or one part of a kernel, computes.

A matrix product whose columns one pointwise stage reads, each once, is computed by the pass of that stage, in
registers; the others are passes of their own.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count

from elman.engine.plan.ir import Buffer, BufferColumns, BufferKind, Operand, Pointwise, Product, Program, Stage, Store
from elman.engine.plan.layout import Broadcast, match_reduction, width

MAX_FUSED = 4  # tiles of products that one pass accumulates: each takes registers, and shared memory for its matrix


@dataclass(frozen=True)
class Pass:
    """One stage of a program, with the products that it computes in passing, by where their results would be stored.

    Attributes:
        name: of its function.
        stage: what it computes.
        fused: products that it computes and does not store.
        only_for_next: only the next step uses its results.
    """

    name: str
    stage: Stage
    fused: Mapping[BufferColumns, Product] = field(default_factory=dict)
    only_for_next: bool = False

    def reads(self) -> list[BufferColumns]:
        """What it loads, except parameters."""
        if isinstance(self.stage, Product):
            return [self.stage.a, *([self.stage.c] if self.stage.add else [])]
        loads = [location for location in self.stage.loads() if location not in self.fused]
        for product in self.fused.values():
            loads += [product.a, *([product.c] if product.add else [])]
        return list(dict.fromkeys(loads))

    def writes(self) -> list[BufferColumns]:
        """What it stores."""
        if isinstance(self.stage, Product):
            return [self.stage.c]
        return list(dict.fromkeys(store.location for store in self.stage.stores))

    def products(self) -> list[Product]:
        """The products that it computes."""
        return [self.stage] if isinstance(self.stage, Product) else list(self.fused.values())

    def buffers(self) -> list[Buffer]:
        """Every buffer that it reads or writes, once."""
        return list(dict.fromkeys(columns.buffer for columns in (*self.reads(), *self.writes())))


def passes_of(name: str, program: Program) -> list[Pass]:
    """Return the passes of a program of the loop."""
    fused = dict(_fusable(program.stages))
    passes: list[Pass] = []
    for i, (stage, only_for_next) in enumerate(zip(program.stages, program.only_for_next_step(), strict=True)):
        if i in fused:
            continue
        products = [program.stages[k] for k, reader in fused.items() if reader == i]
        by_location = {product.c: product for product in products if isinstance(product, Product)}
        for part in _parts(stage):
            passes.append(Pass(f"{name}_pass{len(passes)}", part, by_location, only_for_next))
    return passes


def separate_passes(name: str, program: Program) -> list[list[Pass]]:
    """Return the passes of each pointwise stage of a program that runs on all rows at once; torch multiplies."""
    names = (f"{name}_pass{i}" for i in count())
    stages = [stage for stage in program.stages if isinstance(stage, Pointwise)]
    return [[Pass(next(names), part) for part in _parts(stage)] for stage in stages]


def result_of(store: Store) -> Broadcast | None:
    """Return how the result of a store's reduction would be broadcast to what it reduces; None without one."""
    if store.reduction is None:
        return None
    match = match_reduction(store.reduction)
    assert match is not None
    return match.broadcast


def _parts(stage: Stage) -> list[Stage]:
    """Return a stage in parts that go one way through the columns: head by head, or column by column for all heads."""
    if isinstance(stage, Product):
        return [stage]
    over_heads = tuple(store for store in stage.stores if result_of(store) is Broadcast.PER_COLUMN)
    others = tuple(store for store in stage.stores if result_of(store) is not Broadcast.PER_COLUMN)
    return [replace(stage, stores=stores) for stores in (others, over_heads) if stores]


def barriers(passes: Sequence[Pass]) -> list[bool]:
    """Return for each pass whether it must wait until all threads have finished the passes before it."""
    flags, read, written = [], set[str](), set[str]()
    for p in passes:
        reads, writes = ({columns.buffer.name for columns in of} for of in (p.reads(), p.writes()))
        flags.append(bool(written & (reads | writes) or read & writes))
        if flags[-1]:
            read, written = set(), set()
        read |= reads
        written |= writes
    return flags


def _fusable(stages: Sequence[Stage]) -> Iterator[tuple[int, int]]:
    """Yield the products that a pointwise stage computes in passing, each with that stage."""
    room = [MAX_FUSED] * len(stages)
    for i, product in enumerate(stages):
        # A result in a BLOCK buffer, or added to one of `before`, is read by this step alone.
        if not isinstance(product, Product) or not (product.c.buffer.kind is BufferKind.BLOCK or product.add):
            continue
        readers = [k for k, stage in enumerate(stages) if k != i and _reads(stage, product)]
        if len(readers) != 1 or readers[0] < i:
            continue
        (k,) = readers
        stage = stages[k]
        if not isinstance(stage, Pointwise) or any(store.reduction is not None for store in stage.stores):
            continue
        uses = [operand for operand in stage.operands() if stage.location(operand) == product.c]
        changed = any(_writes(stages[j], product.a.buffer) for j in range(i + 1, k + 1))
        if changed or not all(operand.broadcast is Broadcast.ELEMENTWISE for operand in uses):
            continue
        if len(uses) <= room[k]:
            room[k] -= len(uses)
            yield i, k


def _reads(stage: Stage, product: Product) -> bool:
    """Whether a stage reads some of the columns that a product computes."""
    if isinstance(stage, Product):
        reads = [(stage.a, stage.depth), *([(stage.c, stage.width)] if stage.add else [])]
    else:
        reads = [(columns, width(operand.node)) for operand, columns in _loads(stage)]
    c, end = product.c, product.c.offset + product.width
    return any(a.buffer == c.buffer and a.offset < end and c.offset < a.offset + size for a, size in reads)


def _loads(stage: Pointwise) -> Iterator[tuple[Operand, BufferColumns]]:
    for operand in stage.operands():
        location = stage.location(operand)
        if location is not None:
            yield operand, location


def _writes(stage: Stage, buffer: Buffer) -> bool:
    if isinstance(stage, Product):
        return stage.c.buffer == buffer
    return any(store.location.buffer == buffer for store in stage.stores)
