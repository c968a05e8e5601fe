"""The operations that a cell may use, from the tables that the native executor uses. Part of docs/operations.md."""

from collections.abc import Iterable
from typing import Any

from elman.engine.plan.domains import PRODUCT
from elman.engine.plan.layout import VIEW
from elman.engine.plan.operations import POINTWISE, REDUCTIONS
from elman.engine.trace import batch_axis, batch_matmul
from elman.engine.trace.aten import SPLIT
from elman.engine.trace.decompositions import DECOMPOSITIONS
from elman.engine.trace.random_ops import RANDOM_METHODS


def table() -> str:
    """Sections with the names of all operations, in Markdown."""
    views = [*SPLIT, *VIEW, *batch_axis.VIEWS, "cat", "stack"]
    products = (
        "Products of rows with a parameter, any number of them. Products of heads, at most "
        f"{batch_matmul.MAX_HEADS}, with a matrix for each head or one for all. Products of two values of the step, if "
        "one of them is a vector."
    )
    return "\n".join(
        (
            _section("Matrix products", PRODUCT | batch_matmul.PRODUCTS, products),
            _section("Pointwise", POINTWISE, "Compiled to vector code. Conditions are numbers, 1 and 0."),
            _section("Reductions", REDUCTIONS, "Over all axes of a row, or over its first or last axes."),
            _section("Decomposed", DECOMPOSITIONS, "Split into the operations above."),
            _section("Views", views, "Nothing is copied: the numbers are read where they are."),
            _section(
                "Random numbers", RANDOM_METHODS, "Drawn before the loop, in the order in which the loop draws them."
            ),
        )
    )


def _section(title: str, operations: Iterable[Any], text: str) -> str:
    names = sorted({str(operation).removeprefix("aten.").split(".")[0].rstrip("_") for operation in operations})
    return f"## {title}\n\n{text}\n\n{', '.join(f'`{name}`' for name in names if not name.startswith('_'))}\n"
