"""How exact tanh and sigmoid are on the native executor: `python benchmarks/numerics.py` draws results/numerics.png.

Errors are in units in the last place (ulp) of the correct result, worked out in long double.
"""

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from torch import Tensor

from elman.bench.elementwise import FUNCTIONS, native

mpl.use("Agg")
from matplotlib import pyplot as plt

EXACT: dict[str, Any] = {"tanh": np.tanh, "sigmoid": lambda x: 1 / (1 + np.exp(-x))}
DTYPES = {"float32": (torch.float32, np.float32), "float64": (torch.float64, np.float64)}


def inputs(dtype: torch.dtype) -> Tensor:
    """A million numbers where the function bends, and as many over every size."""
    generator = torch.Generator().manual_seed(0)
    near = torch.linspace(-20, 20, 1 << 20, dtype=torch.float64)
    sizes = 10 ** (torch.rand(1 << 20, generator=generator, dtype=torch.float64) * 40 - 37)
    signs = torch.randint(0, 2, sizes.shape, generator=generator) * 2 - 1
    return torch.cat((near, sizes * signs)).to(dtype)


def errors(name: str, dtype: str, values: Tensor, x: Tensor) -> np.ndarray:
    """In ulp, of the results that are normal numbers."""
    correct = EXACT[name](x.numpy().astype(np.longdouble))
    rounded = np.abs(correct).astype(DTYPES[dtype][1])
    found = np.abs(values.numpy().astype(np.longdouble) - correct) / np.spacing(rounded)
    return np.where(rounded >= np.finfo(rounded.dtype).tiny, found, 0).astype(np.float64)


def main() -> None:
    """Print the largest errors and draw all of them."""
    figure, axes = plt.subplots(2, 2, figsize=(11, 6.5), sharey=True)
    for row, name in zip(axes, EXACT, strict=True):
        for axis, dtype in zip(row, DTYPES, strict=True):
            x = inputs(DTYPES[dtype][0])
            ours = errors(name, dtype, native(name, x), x)
            theirs = errors(name, dtype, FUNCTIONS[name](x), x)
            print(f"{name} {dtype}: at most {ours.max():.2f} ulp, at {x[ours.argmax()]:.6g}; torch {theirs.max():.2f}")
            near = slice(0, 1 << 20)
            bins = x[near].numpy().reshape(-1, 1 << 10).mean(1)
            axis.plot(bins, ours[near].reshape(-1, 1 << 10).max(1), lw=0.8, label="elman, native")
            axis.plot(bins, theirs[near].reshape(-1, 1 << 10).max(1), lw=0.8, alpha=0.7, label="torch")
            axis.axhline(4, color="black", ls=":", lw=0.8)
            axis.set_title(f"{name}, {dtype}", fontsize=11)
            axis.set_xlabel("x")
            axis.set_ylim(0, 4.3)
        row[0].set_ylabel("largest error (ulp)")
    axes[0, 0].legend(loc="upper right", fontsize=9)
    figure.tight_layout()
    figure.savefig(Path(__file__).parent / "results" / "numerics.png", dpi=110)


if __name__ == "__main__":
    main()
