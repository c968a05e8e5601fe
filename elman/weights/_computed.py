"""Weights that are parameters, and weights that are computed from parameters: pruned, normalized, parametrized."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm


class Weight(NamedTuple):
    """A weight of a layer, by its name."""

    layer: nn.Module
    name: str

    def value(self) -> Tensor:
        """Return the value that a call of the layer would use: its last one may be older than its parameters."""
        with torch.no_grad():
            match self._hook():
                case SpectralNorm() as hook:
                    value = hook.compute_weight(self.layer, do_power_iteration=False)
                case WeightNorm() as hook:
                    value = hook.compute_weight(self.layer)
                case BasePruningMethod() as hook:
                    value = hook.apply_mask(self.layer)
                case _:
                    value = getattr(self.layer, self.name)
        return value.detach()

    def set(self, value: Tensor) -> None:
        """Set the weight, or the parameters that it is computed from.

        Raises:
            ValueError: if its computation cannot yield this value.
        """
        layer, name, hook = self.layer, self.name, self._hook()
        parameter = layer._parameters.get(name)
        if parameter is not None:
            parameter.data.copy_(value)
            return
        computed, reason = self.value(), ""
        value = value.to(computed)
        if torch.equal(value, computed):
            return
        with torch.no_grad():
            if parametrize.is_parametrized(layer, name):
                try:
                    setattr(layer, name, value)
                except (
                    RuntimeError,
                    ValueError,
                ) as error:  # the parametrization has no inverse, or none for this value
                    reason = f" ({str(error).partition(chr(10))[0]})"
            elif isinstance(hook, WeightNorm):
                getattr(layer, f"{name}_g").copy_(torch.norm_except_dim(value, 2, hook.dim))
                getattr(layer, f"{name}_v").copy_(value)
            elif hook is not None:
                getattr(layer, f"{name}_orig").copy_(value)
        computed = self.value()
        error_size = (computed - value).abs().max().item()
        # Written as `not ... <=`, so that NaN fails.
        if reason or not error_size <= 1e3 * torch.finfo(value.dtype).eps * value.abs().max().item():
            raise ValueError(
                f"{name}: the layer computes this weight, by {self._computation(hook)}, which cannot give the new "
                f"values{reason}; make the weight a plain parameter first, {self._removal(hook)}"
            )
        if hook is not None:
            setattr(layer, name, computed)

    def _hook(self) -> Any:
        """Return the hook that computes the weight before each call, if there is one."""
        for hook in self.layer._forward_pre_hooks.values():
            if isinstance(hook, BasePruningMethod) and hook._tensor_name == self.name:
                return hook
            if isinstance(hook, WeightNorm | SpectralNorm) and hook.name == self.name:
                return hook
        return None

    def _computation(self, hook: object) -> str:
        if parametrize.is_parametrized(self.layer, self.name):
            parametrizations: Any = self.layer.parametrizations
            return " and ".join(type(module).__name__ for module in parametrizations[self.name])
        return "code of its own" if hook is None else type(hook).__name__

    def _removal(self, hook: object) -> str:
        if parametrize.is_parametrized(self.layer, self.name):
            return f"torch.nn.utils.parametrize.remove_parametrizations(layer, {self.name!r})"
        if hook is None:
            return f"by layer.register_parameter({self.name!r}, ...)"
        removals = {WeightNorm: "remove_weight_norm", SpectralNorm: "remove_spectral_norm"}
        removal = removals.get(type(hook), "prune.remove")
        return f"torch.nn.utils.{removal}(layer, {self.name!r})"
