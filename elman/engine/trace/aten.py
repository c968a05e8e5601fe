"""Properties of aten operations: what they write into, what they decompose to."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from elman.engine.torch_private import DispatchKey
from elman.engine.trace import activations  # noqa: F401 - which fills the table of decompositions
from elman.engine.trace.decompositions import DECOMPOSITIONS, addmm, sums_in_two
from elman.engine.trace.errors import CannotCapture, current_line

aten = torch.ops.aten

CONSTANT = aten.full.default  # as which every tensor of one known number is written down
FILLED = {
    aten.zeros.default, aten.ones.default, aten.full.default, aten.zeros_like.default, aten.ones_like.default,
    aten.full_like.default, aten.new_zeros.default, aten.new_ones.default, aten.new_full.default,
    aten.scalar_tensor.default, aten.fill_.Scalar, aten.zero_.default,
}  # fmt: skip
EMPTY = {aten.empty.memory_format, aten.empty_like.default, aten.new_empty.default}
SAME = {aten.detach.default, aten.alias.default, aten.clone.default, aten.lift_fresh.default, aten._to_copy.default}
CONVERSION = aten.to.dtype
SPLIT = {aten.split.Tensor, aten.split_with_sizes.default, aten.unsafe_split.Tensor, aten.unbind.int}
# What means something else where it makes no fractions but conditions, or whole numbers.
BITWISE = {aten.bitwise_and.Tensor, aten.bitwise_or.Tensor, aten.bitwise_xor.Tensor, aten.bitwise_not.default}
OTHERWISE = {
    torch.bool: {aten.add.Tensor, aten.add.Scalar, aten.sum.dim_IntList},
    torch.int32: BITWISE,
    torch.int64: BITWISE,
}


def smaller(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """The function that does what an operation does in smaller ones, if there is one."""
    if func is aten.sum.dim_IntList:
        dims = [dim % args[0].dim() for dim in args[1] or range(args[0].dim())]
        return sums_in_two if 0 in dims and len(dims) > 1 else None
    if func is aten.slice_backward.default and args[-1] != 1:
        return None
    if func is aten.addmm.default:
        return addmm if kwargs or args[0].dim() > 1 else None
    if func.has_kernel_for_dispatch_key(DispatchKey.CompositeImplicitAutograd):
        return func.decompose
    return DECOMPOSITIONS.get(func)


def overwritten(func: Any, args: Sequence[Any]) -> list[Tensor]:
    """The tensors that an operation writes into."""
    pairs = zip(func._schema.arguments, args, strict=False)
    return [value for spec, value in pairs if spec.is_out or (spec.alias_info is not None and spec.alias_info.is_write)]


def overlap(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors have a number in memory in common."""
    memory = a.untyped_storage()
    if memory.data_ptr() != b.untyped_storage().data_ptr():
        return False
    touched = torch.zeros(memory.nbytes() // a.element_size(), dtype=torch.bool)
    touched.as_strided(a.shape, a.stride(), a.storage_offset()).fill_(True)
    return bool(touched.as_strided(b.shape, b.stride(), b.storage_offset()).any())


def exact(of: torch.dtype, to: torch.dtype) -> bool:
    """Whether a conversion leaves every number what it is."""
    wide = (torch.float32, torch.float64, torch.int32, torch.int64)
    return not (of.is_floating_point or of.is_complex) and to in wide


def functional(func: Any) -> Any:
    """The operation that returns what this one writes in place; itself, if it writes nothing."""
    if func in (aten.view.default, aten._unsafe_view.default):
        return aten.reshape.default  # copies that make a view possible are not written down
    if not func._schema.is_mutable:
        return func
    name, overload = func._schema.name.split("::")[1], func._schema.overload_name or "default"
    packet = getattr(aten, name.rstrip("_"), None)
    if not name.endswith("_") or packet is None or overload not in packet.overloads():
        raise CannotCapture(f"{func}, which writes into a tensor{current_line()}")
    return getattr(packet, overload)
