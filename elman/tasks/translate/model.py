"""An encoder-decoder network that translates sentences."""

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding

from elman.decoding.attention_decoder import Decoder, Writer
from elman.tasks.recurrent_layers import stack, title


class Translator(Writer):
    """A bidirectional recurrent encoder of the tokens of a sentence, and a recurrent decoder with attention.

    Args:
        source: size of the source vocabulary.
        vocabulary: size of the target vocabulary, including the end of a text.
        cell: a name in `elman.cells.REGISTRY`.
        hidden: H, hidden size of the decoder and of each direction of the encoder.
        layers: number of recurrent layers of the encoder, and of the decoder.
        embed: size of the token embeddings.
        dropout: dropout probability, between recurrent layers, on embeddings and before the output.
        bptt: truncated BPTT: steps of the gradient; 0: all steps.
        smoothing: label smoothing.

    >>> model = Translator(10, 12, "gru", 16)
    >>> model.encode(torch.tensor([[3, 4], [5, 0]]), torch.tensor([2, 1])).shape    # 2 steps of B=2, 2 x H
    torch.Size([2, 2, 32])
    """

    def __init__(
        self,
        source: int,
        vocabulary: int,
        cell: str = "gru",
        hidden: int = 256,
        layers: int = 1,
        embed: int = 256,
        dropout: float = 0.0,
        bptt: int = 0,
        smoothing: float = 0.0,
    ) -> None:
        encoder = stack(embed, hidden, layers, cell, dropout, bptt, bidirectional=True)
        recurrent = stack(embed, hidden, layers, cell, dropout, bptt)
        decoder = Decoder(vocabulary, encoder.output_size, embed, recurrent, dropout)
        super().__init__(decoder, smoothing, f"{title(cell, layers, hidden)}, attention")
        self.embedding = nn.Parameter(torch.randn(source, embed) * embed**-0.5)
        self.encoder = encoder

    def encode(self, source: Tensor, lengths: Tensor | None) -> Tensor:
        """Encode tokens (S, B): (S, B, 2 * H)."""
        outputs: Tensor = self.encoder(self.decoder.dropout(embedding(source, self.embedding)), lengths=lengths)[0]
        return outputs
