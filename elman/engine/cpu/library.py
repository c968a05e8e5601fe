"""The kernel library that compiled cells call, one for each dtype.

Nothing in it knows of cells. `gemm_tile` packs matrices and multiplies a few rows by a few columns, `gemm` multiplies
whole matrices by these, `gemv` a few rows by a matrix that is not packed; `reductions` sums over rows; `barrier` lets
threads wait for each other.
"""

from typing import Any

from elman.engine.cpu import barrier, gemm, gemm_tile, gemv, reductions
from elman.engine.cpu.ir_builder import Real


def write(module: Any, real: Real) -> None:
    """Write all of it into a module."""
    for part in (
        gemm_tile.pack,
        gemm.product,
        gemv.direct,
        reductions.outer,
        reductions.column_sums,
        barrier.barrier,
        barrier.entries,
    ):
        part(module, real)
