"""The generators of devices that are not here, by torch's own functions on pretended ones."""

import pytest
import torch

from elman.engine.rng_state import RngStates, get_rng_state, rng_state


@pytest.mark.parametrize(("name", "index"), [("mps", 0), ("mps:0", 0), ("xpu", 0), ("xpu:1", 1)])
def test_a_step_that_runs_again_draws_the_same(name: str, index: int, monkeypatch: pytest.MonkeyPatch) -> None:
    generators = [torch.Generator().manual_seed(k) for k in range(2)]
    monkeypatch.setattr(torch.mps, "_get_default_mps_generator", lambda: generators[0])
    monkeypatch.setattr(torch.xpu, "default_generators", generators)
    for function, result in {"is_initialized": True, "_lazy_init": None, "current_device": 0}.items():
        monkeypatch.setattr(torch.xpu.random, function, lambda result=result: result)
    monkeypatch.setattr(torch.xpu.random, "_lazy_call", lambda call: call())
    device, states = torch.device(name), RngStates(torch.device(name))

    def draw() -> list[float]:
        return [torch.rand(()).item(), torch.rand((), generator=generators[index]).item()]

    drawn = []
    for _ in range(2):
        states.record()
        drawn.append(draw())
    last = draw()
    with rng_state(before := get_rng_state(device), device):
        draw()
    assert len(before) == 2
    for k in range(2):
        with states.drawing_from(k):
            assert draw() == drawn[k]
    assert drawn[0] != drawn[1] != last
    assert all(map(torch.equal, get_rng_state(device), before))
