"""Learning while a stream goes on: what was heard three steps ago, told with a loudness that drifts."""

import math

import torch
from torch import nn

import elman
from elman.bptt import RTRL, Full, Mode

DELAY, STEPS, ROWS = 3, 600, 4


def learn(bptt: Mode, name: str) -> None:
    """Walk through an endless stream step by step, learning at every step from its error."""
    torch.manual_seed(0)
    layer, read = elman.RNN(1, 12, bptt=bptt), nn.Linear(12, 1)
    optimizer = torch.optim.Adam([*layer.parameters(), *read.parameters()], lr=0.01)
    state, heard, errors = None, [torch.zeros(ROWS, 1)] * DELAY, []
    for t in range(STEPS):
        heard = [*heard[-DELAY:], torch.rand(ROWS, 1) * 2 - 1]
        loudness = 1 + math.sin(t / 200) / 2
        h, state = layer.step(heard[-1], state)
        loss = (read(h) - loudness * heard[0]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        errors.append(loss.item())
        if not isinstance(bptt, RTRL):
            state = state.detach()  # truncated after one step: Full would keep the whole past, more at every step
    print(f"{name}: error {sum(errors[-200:]) / 200:.4f}")


torch.set_num_threads(1)  # for what is as small as this, threads wait for each other
learn(Full(), "one step back")
learn(RTRL(), "the whole past, by RTRL")
