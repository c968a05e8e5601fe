"""Write operations.md, from the tables that the native executor uses: `python docs/make_operations.py`."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from elman.engine.plan.domains import PRODUCT
from elman.engine.plan.layout import VIEW
from elman.engine.plan.operations import POINTWISE, REDUCTIONS
from elman.engine.trace import batch_axis, batch_matmul
from elman.engine.trace.aten import SPLIT
from elman.engine.trace.decompositions import DECOMPOSITIONS
from elman.engine.trace.random_ops import RANDOM_METHODS

HEAD = """# What a cell may be made of

Made by `python docs/make_operations.py` from the tables of the native executor. The names are those of torch's own
operations (`aten`), to which what one writes comes down: `torch.nn.functional.linear` to `t` and `addmm`, `chunk` to
`split`, `torch.nn.RMSNorm` to `pow`, `mean`, `rsqrt` and `mul`. Whatever is made of parameters and buffers alone may be
any operation of torch: it runs once in a call and not at every step.

A value has a row for each member of the batch, of any shape: (B, H), (B,), (B, heads, size). What a row becomes may
depend on that row alone. Operands are broadcast as in torch, along leading or trailing axes of the row. The batch axis
may be moved and moved back, (heads, B, size), or laid together with others, (B * heads, size).

A cell that needs anything else runs on the loop executor, and is told of it once.
"""


def written(title: str, operations: Iterable[Any], text: str) -> str:
    """A section."""
    names = sorted({str(operation).removeprefix("aten.").split(".")[0].rstrip("_") for operation in operations})
    return f"\n## {title}\n\n{text}\n\n{', '.join(f'`{name}`' for name in names if not name.startswith('_'))}\n"


def page() -> str:
    """The whole page."""
    arranged = [*SPLIT, *VIEW, *batch_axis.VIEWS, "cat", "stack"]
    products = (
        "Of rows with a parameter, as many and as deep as one likes; of heads, each with its own matrix or all with "
        f"the same, up to {batch_matmul.MAX_HEADS} of them. Of two values of the step, if one is a vector."
    )
    return HEAD + "".join(
        (
            written("Matrix products", PRODUCT | batch_matmul.PRODUCTS, products),
            written("Element by element", POINTWISE, "Compiled as vector code. Conditions are numbers, 1 and 0."),
            written("Over the columns of a row", REDUCTIONS, "Over all axes of a row, the last or the first ones."),
            written("In smaller operations", DECOMPOSITIONS, "Known as a sum of the above."),
            written("Arrangements of columns", arranged, "Nothing is copied: the numbers are read where they are."),
            written(
                "Random numbers", RANDOM_METHODS, "Drawn before the loop, in the order in which the loop draws them."
            ),
        )
    )


if __name__ == "__main__":
    Path(__file__).with_name("operations.md").write_text(page())
