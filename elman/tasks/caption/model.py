"""An encoder-decoder network that reads an image row by row and writes a text."""

from torch import Tensor

from elman.decoding.attention_decoder import Decoder, Writer
from elman.tasks.recurrent_layers import stack, title


class Captioner(Writer):
    """A bidirectional recurrent encoder of the rows of an image, and a recurrent decoder with attention.

    Args:
        width: D, pixels of a row.
        vocabulary: V, tokens including the end of a text.
        cell: a name in `elman.cells.REGISTRY`.
        hidden: H, hidden size of the decoder and of each direction of the encoder.
        layers: number of recurrent layers of the encoder, and of the decoder.
        embed: size of the token embeddings.
        dropout: dropout probability, between recurrent layers, on embeddings and before the output.
        bptt: truncated BPTT: steps of the gradient; 0: all steps.
        smoothing: label smoothing.

    >>> import torch
    >>> model = Captioner(8, 12, "gru", 16)
    >>> model.encode(torch.rand(8, 2, 8), torch.tensor([8, 8])).shape        # 8 rows of B=2 images, 2 x H
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

    def encode(self, source: Tensor, lengths: Tensor | None) -> Tensor:
        """Encode images as rows (T, B, D): (T, B, 2 * H)."""
        outputs: Tensor = self.encoder(source)[0]
        return outputs
