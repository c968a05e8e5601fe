"""Norms of very small gradients."""

import torch
from torch import Tensor


def row_norms(rows: Tensor) -> Tensor:
    """Euclid's norm of each row (..., H), as a double: (...).

    Squares of 1e-30 are zero in single precision, and those of 1e30 infinite: rows like these, and they alone, are
    squared in double precision. To copy all of them would take as long as a small backward pass.
    """
    dtype = torch.promote_types(rows.dtype, torch.float32)
    found: Tensor = torch.linalg.vector_norm(rows, dim=-1, dtype=dtype)
    of = torch.finfo(dtype)
    least = of.tiny**0.5 / of.eps  # of this, no square that is lost is a part that counts
    found, single = found.double(), found
    if single.numel() and not (least < float(single.min()) and float(single.max()) < 1 / least):
        lost = ~((least < single) & (single < 1 / least))  # also what is no number
        found[lost] = torch.linalg.vector_norm(rows[lost], dim=-1, dtype=torch.float64)
    return found
