"""A cell of one's own, run through time and trained: leaky units learn to forget as slowly as they have to."""

import torch
from torch import Tensor, nn

import elman


class Leaky(nn.Module):
    """h_t = (1 - a) h_{t-1} + a tanh(W x_t + b), with one learnt leak 0 < a < 1 per unit."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.state_size = hidden_size
        self.input = nn.Linear(input_size, hidden_size)
        self.leak = nn.Parameter(torch.zeros(hidden_size))

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        """One step: x (B, D) and h (B, H) to the next h."""
        a = torch.sigmoid(self.leak)
        return (1 - a) * h + a * torch.tanh(self.input(x))


torch.manual_seed(0)
layer, read = elman.Recurrent(Leaky(1, 16)), nn.Linear(16, 1)
optimizer = torch.optim.Adam([*layer.parameters(), *read.parameters()], lr=0.02)
x = torch.rand(30, 64, 1)  # T=30 steps, B=64 sequences
target = torch.stack([(0.9 ** torch.arange(t, -1, -1).view(-1, 1, 1) * x[: t + 1]).sum(0) for t in range(30)])
for step in range(201):
    h, _ = layer(x)
    loss = (read(h) - target).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 50 == 0:
        print(f"step {step}: mean squared error {loss.item():.4f}")
