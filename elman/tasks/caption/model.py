"""A network that reads an image row by row and writes about it."""

from torch import Tensor

from elman.decoding.attention_decoder import Decoder, Writer
from elman.tasks.recurrent_layers import stack, title


class Captioner(Writer):
    """Recurrent layers that read the rows of an image from both ends, and a decoder that attends to them.

    Args:
        width: D, pixels of a row.
        vocabulary: V, tokens, the end among them.
        cell: a name in `elman.cells.REGISTRY`.
        hidden: H, of every recurrent layer and direction, and of the decoder's.
        layers: how many of them, on each side.
        embed: width of a token's embedding.
        dropout: probability, on what layers hand up, on embeddings and before the output, in training.
        bptt: steps that the gradient goes back; 0: all the way.
        smoothing: what share of a target's probability goes to all tokens alike, in training.

    >>> import torch
    >>> model = Captioner(8, 12, "gru", 16)
    >>> model.encode(torch.rand(8, 2, 8), torch.tensor([8, 8])).shape        # 8 rows of B=2 images, 2 x H wide
    torch.Size([8, 2, 32])
    """

    def __init__(
        self,
        width: int,
        vocabulary: int,
        cell: str = "gru",
        hidden: int = 96,
        layers: int = 1,
        embed: int = 64,
        dropout: float = 0.0,
        bptt: int = 0,
        smoothing: float = 0.0,
    ) -> None:
        encoder = stack(width, hidden, layers, cell, dropout, bptt, bidirectional=True)
        recurrent = stack(embed, hidden, layers, cell, dropout, bptt)
        decoder = Decoder(vocabulary, encoder.output_size, embed, recurrent, dropout)
        super().__init__(decoder, smoothing, f"{title(cell, layers, hidden)}, attention")
        self.encoder = encoder

    def encode(self, source: Tensor, lengths: Tensor) -> Tensor:
        """As there, of images as rows (T, B, D)."""
        outputs: Tensor = self.encoder(source)[0]
        return outputs
