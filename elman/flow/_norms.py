"""Norms of very small and very large gradients."""

import torch
from torch import Tensor


def row_norms(rows: Tensor) -> Tensor:
    """Return the Euclidean norm of each row (..., H) in double precision: (...).

    In single precision the square of 1e-30 underflows to zero and that of 1e30 overflows. Only rows with such norms are
    squared in double precision: converting all rows would take as long as a small backward pass.
    """
    dtype = torch.promote_types(rows.dtype, torch.float32)
    single: Tensor = torch.linalg.vector_norm(rows, dim=-1, dtype=dtype)
    info = torch.finfo(dtype)
    smallest = info.tiny**0.5 / info.eps  # in larger norms, squares that underflow are below the rounding error
    norms = single.double()
    if single.numel() and not (smallest < float(single.min()) and float(single.max()) < 1 / smallest):
        inexact = ~((smallest < single) & (single < 1 / smallest))  # includes NaN
        norms[inexact] = torch.linalg.vector_norm(rows[inexact], dim=-1, dtype=torch.float64)
    return norms
