"""Take trained layers and models out of Python: ONNX, C, torch.export, RTNeural.

Each format is a file of this package and an entry of `FORMATS`.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from elman.export._formats import FORMATS, Format, Runner
from elman.layers import _exported as _exported  # the operator of files that `torch_export` writes

if TYPE_CHECKING:
    from elman.export._c import write as c
    from elman.export._check import CheckResult, check
    from elman.export._onnx import write as onnx
    from elman.export._rtneural import write as rtneural
    from elman.export._torch_export import write as torch_export

__all__ = ["FORMATS", "CheckResult", "Format", "Runner", "c", "check", "onnx", "rtneural", "torch_export"]


def __getattr__(name: str) -> object:
    if name in ("CheckResult", "check"):
        return getattr(import_module("elman.export._check"), name)
    if name in FORMATS:
        return FORMATS[name].write
    raise AttributeError(f"module 'elman.export' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *FORMATS})
