"""What sequences of several lengths cost: `python benchmarks/ragged.py --threads 2`.

Lengths are drawn uniformly from 1 to T. Two tables, measured in turns as in `elman bench`. The first has our layer with
`lengths=` and with a PackedSequence, as shares of the same call with padding and all, forward alone and both ways; what
exceeds the share of real steps is what raggedness costs. The second has both ways beside torch.nn, both layers given a
PackedSequence and giving one back, and both from a padded batch to a padded batch (torch.nn's packs and unpacks it).
"""

from collections.abc import Callable
from functools import partial

import torch
from arguments import arguments
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from elman.bench.layers import AGREEMENT, PAIRS, Shape, medians
from elman.bench.run import machine

SHAPES = "128,32,128,128 120,40,96,112"

Functions = list[Callable[[], list[Tensor]]]


def sides(cell: str, shape: Shape) -> tuple[Functions, Functions, float]:
    """Functions to time, forward alone and both ways, which return what must agree; and the share of real steps."""
    torch.manual_seed(0)
    pair, (T, B, D, H) = PAIRS[cell], shape
    ours, theirs = pair.ours(D, H, executor="native"), pair.theirs(D, H)
    theirs.load_state_dict(ours.state_dict())
    lengths = torch.randint(1, T + 1, (B,))
    lengths[0] = T
    x, dy = torch.randn(T, B, D, requires_grad=True), torch.randn(T, B, H)
    dy *= (torch.arange(T).unsqueeze(1) < lengths).unsqueeze(2)
    packed = pack_padded_sequence(x, lengths, enforce_sorted=False)
    rows = packed._replace(data=packed.data.detach().requires_grad_())
    d_rows = pack_padded_sequence(dy, lengths, enforce_sorted=False).data

    def gradients(layer: torch.nn.Module, outputs: Tensor, d: Tensor, of: Tensor) -> list[Tensor]:
        return list(torch.autograd.grad(outputs, [of, *layer.parameters()], d))

    def forward(x: Tensor | PackedSequence, lengths: Tensor | None = None) -> list[Tensor]:
        with torch.no_grad():
            outputs = ours(x, lengths=lengths)[0]
        return [outputs.data]

    def padded() -> list[Tensor]:
        return gradients(ours, ours(x)[0], dy, x)

    def ragged() -> list[Tensor]:
        return gradients(ours, ours(x, lengths=lengths)[0], dy, x)

    def in_packs(layer: torch.nn.Module) -> list[Tensor]:
        return gradients(layer, layer(rows)[0].data, d_rows, rows.data)

    def from_padded() -> list[Tensor]:
        outputs = pad_packed_sequence(theirs(pack_padded_sequence(x, lengths, enforce_sorted=False))[0])[0]
        return gradients(theirs, outputs, dy, x)

    forwards: Functions = [partial(forward, x), partial(forward, x, lengths), partial(forward, rows)]
    both: Functions = [padded, ragged, partial(in_packs, ours), partial(in_packs, theirs), from_padded]
    return forwards, both, len(d_rows) / (T * B)


def disagreement(functions: Functions) -> float:
    """Between our gradients and those of torch.nn, packed and from padded."""
    _, ragged, ours, theirs, from_padded = functions
    pairs = [*zip(ours(), theirs(), strict=True), *zip(ragged(), from_padded(), strict=True)]
    return max(float((a - b).norm() / b.norm()) for a, b in pairs)


def as_shares(seconds: list[float], real: float) -> str:
    """Our times, as shares of that of the padded call and as what exceeds the share of real steps."""
    padded, ragged, packed, *_ = seconds
    shares = (
        f"{share:{width}.2f} {share - real:7.3f}" for share, width in ((ragged / padded, 8), (packed / padded, 7))
    )
    return f"{1e3 * padded:10.2f} {' '.join(shares)}"


def main() -> None:
    """Print a table."""
    asked = arguments(__doc__, SHAPES, seconds=2.0).parse_args()
    torch.set_num_threads(asked.threads)
    shares = f"{'padded ms':>10} {'lengths':>8} {'excess':>7} {'packed':>7} {'excess':>7}"
    print(f"{'layer':9} {'T,B,D,H':>16} {'real':>5} {'forward':>8} {shares} {'both ways':>10} {shares}")
    rows = []
    for cell in PAIRS:
        for shape in asked.shapes:
            forwards, functions, real = sides(cell, shape)
            if not (error := disagreement(functions)) <= 10 * AGREEMENT:
                raise SystemExit(f"{cell} {shape}: the gradients differ by {error:.1e}")
            forward, both = medians(forwards, asked.seconds), medians(functions, asked.seconds)
            print(f"{cell:9} {shape!s:>16} {real:5.2f} {'':8} {as_shares(forward, real)} {'':10} "
                  f"{as_shares(both, real)}", flush=True)  # fmt: skip
            _, ragged, ours, theirs, whole = (1e3 * t for t in both)
            rows.append(f"{cell:9} {shape!s:>16} {ours:10.2f} {theirs:12.2f} {theirs / ours:7.2f} {ragged:11.2f} "
                        f"{whole:15.2f} {whole / ragged:7.2f}")  # fmt: skip
    print(f"\n{'layer':9} {'T,B,D,H':>16} {'packed ms':>10} {'torch.nn ms':>12} {'faster':>7} {'lengths ms':>11} "
          f"{'and padding ms':>15} {'faster':>7}")  # fmt: skip
    print(*rows, sep="\n")
    print(f"{asked.threads} threads; {machine()['cpu']}, torch {torch.__version__}")


if __name__ == "__main__":
    main()
