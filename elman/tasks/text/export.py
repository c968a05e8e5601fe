"""The exported language model: one module for a step and for a sequence."""

from typing import Any

import torch
from torch import Tensor, nn

from elman.data import tokenizers
from elman.export._modules import ModuleChain
from elman.io.terminal import note
from elman.tasks.export_part import (
    BATCH,
    STEPS,
    Exportable,
    ExportPart,
    TensorSpec,
    as_state,
    as_tensors,
    states_of,
)
from elman.tasks.task import Loaded
from elman.tasks.text.ensemble import network_of
from elman.tasks.text.model import LanguageModel


class ExportedLanguageModel(nn.Module):
    """A language model whose states are inputs and outputs of their own."""

    def __init__(self, model: LanguageModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """Map tokens (T, B) and the initial state to logits (T, B, V) and the final state."""
        logits, final = self.model(tokens, as_state(state))
        return logits, *as_tensors(final)


def export(loaded: Loaded) -> Exportable:
    """Return the model, its tokenizer, and the token that is never generated."""
    model, tokenizer = network_of(loaded.model), loaded.codec
    if model is not loaded.model:
        note(f"{loaded.run.path}: of the ensemble, the network alone is exported")
    vocabulary = tokenizer.get_vocab_size()
    initial, final = states_of(model.recurrent)
    tokens = TensorSpec(
        name="tokens", shape=(STEPS, BATCH), dtype=torch.int64, high=vocabulary, about="tokens, as tokenizer.json"
    )
    logits = TensorSpec(name="logits", shape=(STEPS, BATCH, vocabulary), about="of the token after each")
    part = ExportPart(
        name="model",
        about="maps tokens to the logits of the next; with one step, or with a sequence",
        module=ExportedLanguageModel(model),
        inputs=(tokens, *initial),
        outputs=(logits, *final),
        layers=ModuleChain(model.embedding, model.recurrent, model.output),
    )
    unknown = tokenizer.token_to_id(tokenizers.UNKNOWN)
    settings: dict[str, Any] = {"vocabulary": vocabulary, "never": [] if unknown is None else [unknown]}
    return Exportable([part], settings, {"tokenizer.json": tokenizer.to_str()})
