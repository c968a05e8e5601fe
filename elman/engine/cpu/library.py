"""Writes the kernel library that compiled cells call, one for each dtype.

The library does not depend on the cell. `gemm_tile` packs matrices and multiplies tiles, `gemm` multiplies whole
matrices by tiles, `gemv` multiplies a few rows by a matrix that is not packed, `reductions` sums over rows, `steps`
lays out and copies rows, and `barrier` synchronizes threads.
"""

from typing import Any

from elman.engine.cpu import barrier, gemm, gemm_tile, gemv, reductions, steps
from elman.engine.cpu.ir_builder import Real


def write(module: Any, real: Real) -> None:
    """Write all functions of the library into a module."""
    for write_function in (
        gemm_tile.pack,
        gemm.product,
        gemv.direct,
        reductions.outer,
        reductions.column_sums,
        steps.lay_out_rows,
        steps.copy_rows,
        barrier.barrier,
        barrier.entries,
    ):
        write_function(module, real)
