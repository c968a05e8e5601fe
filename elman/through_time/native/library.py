"""The library that compiled cells call, one for each dtype.

Nothing in it knows of cells. `tiles` packs matrices and multiplies a few rows by a few columns, `products` multiplies
whole matrices by these, `direct` a few rows by a matrix that is not packed; `sums` adds up over rows, `team` sets
threads to work and lets them wait for each other.
"""

from typing import Any

from elman.through_time.native import direct, products, sums, team, tiles
from elman.through_time.native.writer import Real


def write(module: Any, real: Real) -> None:
    """Write all of it into a module."""
    for part in (tiles.pack, products.product, direct.direct, sums.outer, sums.column_sums, team.barrier, team.entries):
        part(module, real)
