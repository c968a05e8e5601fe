"""Properties of aten operations: what they write into, what they decompose to, what they are recorded as."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from elman.engine.torch_private import DispatchKey
from elman.engine.trace import activations  # noqa: F401 - which fills the table of decompositions
from elman.engine.trace.decompositions import DECOMPOSITIONS, addmm, sum_columns_first
from elman.engine.trace.errors import CannotCapture, current_line

aten = torch.ops.aten

CONSTANT = aten.full.default  # records every tensor that is filled with one known number
FILL = {
    aten.zeros.default, aten.ones.default, aten.full.default, aten.zeros_like.default, aten.ones_like.default,
    aten.full_like.default, aten.new_zeros.default, aten.new_ones.default, aten.new_full.default,
    aten.scalar_tensor.default, aten.fill_.Scalar, aten.zero_.default,
}  # fmt: skip
UNINITIALIZED = {aten.empty.memory_format, aten.empty_like.default, aten.new_empty.default}
COPY = {aten.detach.default, aten.alias.default, aten.clone.default, aten.lift_fresh.default, aten._to_copy.default}
CONVERSION = aten.to.dtype
SPLIT = {aten.split.Tensor, aten.split_with_sizes.default, aten.unsafe_split.Tensor, aten.unbind.int}
# Operations that mean something else for conditions or integers than for floating-point numbers, by the dtype of their
# result. Executors compute with floating-point numbers alone, so these are refused.
BITWISE = {aten.bitwise_and.Tensor, aten.bitwise_or.Tensor, aten.bitwise_xor.Tensor, aten.bitwise_not.default}
UNSUPPORTED_BY_DTYPE = {
    torch.bool: {aten.add.Tensor, aten.add.Scalar, aten.sum.dim_IntList},
    torch.int32: BITWISE,
    torch.int64: BITWISE,
}


def decomposition(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Return a function that computes an operation by smaller operations; None if there is none."""
    if func is aten.sum.dim_IntList:
        dims = [dim % args[0].dim() for dim in args[1] or range(args[0].dim())]
        return sum_columns_first if 0 in dims and len(dims) > 1 else None
    if func is aten.slice_backward.default and args[-1] != 1:
        return None
    if func is aten.addmm.default:
        return addmm if kwargs or args[0].dim() > 1 else None
    if func.has_kernel_for_dispatch_key(DispatchKey.CompositeImplicitAutograd):
        return func.decompose
    return DECOMPOSITIONS.get(func)


def tensors_in(*values: Any) -> list[Tensor]:
    """Return the tensors among arguments of an operation, in order.

    They lie in tuples, lists and dictionaries only, for which torch's `tree_leaves` takes ten times as long.
    """
    result: list[Tensor] = []
    for value in values:
        if isinstance(value, Tensor):
            result.append(value)
        elif isinstance(value, list | tuple):
            result += tensors_in(*value)
        elif isinstance(value, dict):
            result += tensors_in(*value.values())
    return result


def mutated_tensors(func: Any, args: Sequence[Any]) -> list[Tensor]:
    """Return the tensors that an operation writes into."""
    pairs = zip(func._schema.arguments, args, strict=False)
    return [value for spec, value in pairs if spec.is_out or (spec.alias_info is not None and spec.alias_info.is_write)]


def overlaps(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors share an element in memory."""
    memory = a.untyped_storage()
    if memory.data_ptr() != b.untyped_storage().data_ptr():
        return False
    is_touched = torch.zeros(memory.nbytes() // a.element_size(), dtype=torch.bool)
    is_touched.as_strided(a.shape, a.stride(), a.storage_offset()).fill_(True)
    return bool(is_touched.as_strided(b.shape, b.stride(), b.storage_offset()).any())


def is_exact_conversion(source: torch.dtype, target: torch.dtype) -> bool:
    """Whether a conversion between dtypes changes no value."""
    wide = (torch.float32, torch.float64, torch.int32, torch.int64)
    return not (source.is_floating_point or source.is_complex) and target in wide


def functional_variant(func: Any) -> Any:
    """Return the operation that returns what this one writes in place; the operation itself if it writes nothing.

    Raises:
        CannotCapture: if there is no such operation.
    """
    if func in (aten.view.default, aten._unsafe_view.default):
        return aten.reshape.default  # which also stands for the copies that make a view possible
    if not func._schema.is_mutable:
        return func
    name, overload = func._schema.name.split("::")[1], func._schema.overload_name or "default"
    packet = getattr(aten, name.rstrip("_"), None)
    if not name.endswith("_") or packet is None or overload not in packet.overloads():
        raise CannotCapture(f"{func}, which writes into a tensor{current_line()}")
    return getattr(packet, overload)
