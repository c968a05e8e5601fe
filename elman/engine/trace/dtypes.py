"""Explains the errors of operations on tensors of different dtypes."""

from collections.abc import Callable
from typing import Any

import torch
from torch.overrides import TorchFunctionMode, resolve_name

from elman.engine.trace.aten import tensors_in
from elman.engine.trace.errors import CannotCapture, current_line

DTYPE_WORDS = ("dtype", "scalar type", "double", "float")  # one of these occurs in torch's errors about dtypes


class OtherDtype(CannotCapture):
    """An operation of a step reads a tensor whose dtype is not that of the model."""


class DtypeCheck(TorchFunctionMode):
    """A mode in which an operation that fails because its tensors differ in dtype raises an error with advice.

    A step is captured in double precision, with its parameters and buffers converted. Other tensors are not converted:
    neither those from outside the cell nor those that the step creates with torch's default dtype.

    Args:
        dtype: The dtype of the model.

    Raises:
        OtherDtype: from such an operation.
    """

    def __init__(self, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        self._dtype = dtype

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        try:
            return func(*args, **kwargs)
        except RuntimeError as error:
            dtypes = [tensor.dtype for tensor in tensors_in(args, kwargs)]
            others = [dtype for dtype in dtypes if dtype != self._dtype]
            if not others or len(others) == len(dtypes) or not any(word in str(error).lower() for word in DTYPE_WORDS):
                raise
            name = (resolve_name(func) or getattr(func, "__name__", "an operation")).rpartition(".")[2]
            raise OtherDtype(
                f"{name}{current_line()} reads a tensor of {others[0]} that does not follow the dtype of the model: "
                "register it as a buffer (register_buffer), or create it in the step with dtype=x.dtype"
            ) from error
