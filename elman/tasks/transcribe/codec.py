"""Encoding of recordings as features and of texts as symbols; decoding of the network's outputs."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, PlainSerializer, PlainValidator
from torch import Tensor
from torch.nn.functional import ctc_loss
from torch.nn.utils.rnn import pad_sequence
from typing_extensions import override

from elman.data import filter_banks, voices
from elman.data.examples import Example
from elman.decoding import ctc
from elman.io.schema import BeamWidth, Positive, SampleRate, Size
from elman.io.terminal import note
from elman.tasks.codec import Codec
from elman.tasks.transcribe.data import min_steps
from elman.tasks.transcribe.language import Language
from elman.tasks.transcribe.model import Recordings
from elman.tasks.transcribe.options import TranscribeOptions
from elman.tasks.transcribe.prediction import TranscribePrediction


@dataclass(frozen=True)
class TranscribeCodec(Codec):
    """Encodes recordings as features, and texts as symbols.

    Attributes:
        rate: samples a second.
        stack: frames of a step.
        mean, std: of each band.
        characters: the alphabet; symbol i is character i - 1, symbol 0 is the CTC blank.
        beam: beam width.
        ngram_weight: the weight of the language model.
        language: an n-gram over symbols.
        floor: added to energies.
        normalize: whether the mean of each recording is subtracted over all bands, or of each band.
        filters: of the convolutions.
        augmentation: how much recordings are changed in training.
    """

    rate: SampleRate
    stack: Size
    mean: list[float]
    std: list[Positive]
    characters: str
    beam: BeamWidth
    ngram_weight: float
    language: Annotated[
        Language,
        PlainValidator(Language.from_dict, json_schema_input_type=dict[str, list[int]]),
        PlainSerializer(Language.to_dict),
    ]
    # Runs of earlier versions have none of the following.
    floor: Positive = 1e-6
    normalize: Literal["all_features", "per_feature"] = "all_features"
    filters: Annotated[int, Field(ge=0)] = 0
    augmentation: voices.Strengths = field(default_factory=voices.Strengths)

    @classmethod
    @override
    def fit(cls, train: Sequence[Example], options: TranscribeOptions) -> "TranscribeCodec":
        texts = list[str]()

        def frames() -> Iterator[Tensor]:
            """Yield the log-mel energies of all recordings, and collect their texts."""
            for example in train:
                texts.append(example.target)
                energies = filter_banks.log_mel(example.input, options.rate, options.bands)
                yield _normalized(energies, options.normalize)

        mean, std = filter_banks.mean_and_std(frames())
        characters = "".join(sorted(set().union(*texts)))
        number = _numbers(characters)
        language = Language.fit([[number[c] for c in text] for text in texts], len(characters) + 1)
        search = (options.beam, options.ngram_weight)
        features = (options.rate, options.stack, mean, std)
        return cls(
            *features,
            characters,
            *search,
            language,
            filter_banks.FLOOR,
            normalize=options.normalize,
            filters=options.filters,
            augmentation=voices.Strengths(*(getattr(options, name) for name in voices.Strengths._fields)),
        )

    @override
    def model_args(self, options: TranscribeOptions) -> dict[str, Any]:
        names = ("cell", "hidden", "layers", "dropout", "time_mask", "band_mask", "bptt")
        sizes = {"bands": len(self.mean), "frames": self.stack, "symbols": len(self.characters) + 1}
        sizes |= {"filters": self.filters} if self.filters else {}
        return sizes | {name: getattr(options, name) for name in names}

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.std):
            raise ValueError(
                f"mean, std: expected as many means as deviations, got {len(self.mean)} and {len(self.std)}"
            )

    @cached_property
    def number(self) -> dict[str, int]:
        """The number of each character, from 1."""
        return _numbers(self.characters)

    def symbols(self, text: str) -> list[int]:
        """Return the symbols of a text, without unknown characters."""
        return [self.number[character] for character in text if character in self.number]

    def frames(self, steps: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the log-mel energies (t, M) of features (T, D)."""
        return steps.reshape(-1, len(self.mean)) * np.array(self.std, np.float32) + np.array(self.mean, np.float32)

    def steps(self, wave: filter_banks.Wave) -> Tensor:
        """Return the features of a recording, (T, D): each band is standardized by its training mean and deviation."""
        return self._steps(filter_banks.log_mel(wave, self.rate, len(self.mean), self.floor))

    def _steps(self, energies: Tensor) -> Tensor:
        x = _normalized(energies, self.normalize)
        return filter_banks.stack_frames((x - torch.tensor(self.mean)) / torch.tensor(self.std), self.stack)

    @property
    @override
    def augments(self) -> bool:
        return any(self.augmentation)

    @override
    def augment(self, examples: Sequence[Example], rngs: Iterable[np.random.Generator]) -> list[tuple[Tensor, Tensor]]:
        """Return the features (T', D) of recordings with other voices and noise, and the symbols of the texts."""
        waves, bands = [example.input for example in examples], len(self.mean)
        changes = list[voices.Change]()
        for wave, example, rng in zip(waves, examples, rngs, strict=True):
            change = voices.draw_change(wave, self.rate, bands, self.augmentation, rng)
            steps = filter_banks.num_steps(voices.length_of(len(wave), change), self.rate, self.stack)
            if steps < min_steps(example.target):  # for CTC
                change = change._replace(tempo=1.0, before=0, after=0)
            changes.append(change)
        energies = voices.changed_log_mel(waves, self.rate, bands, changes, self.floor)
        return [(self._steps(x), self._target(example)) for x, example in zip(energies, examples, strict=True)]

    def _target(self, example: Example) -> Tensor:
        return torch.tensor(self.symbols(example.target or ""), dtype=torch.long)

    @override
    def encode(self, example: Example) -> tuple[tuple[Tensor, Tensor], int]:
        """Return features (T, D) and the symbols of the text."""
        steps = self.steps(example.input)
        return (steps, self._target(example)), len(steps)

    @override
    def collate(self, encoded: Sequence[tuple[Tensor, Tensor]]) -> Recordings:
        steps, targets = zip(*encoded, strict=True)
        lengths, target_lengths = (torch.tensor([len(row) for row in rows]) for rows in (steps, targets))
        return Recordings(pad_sequence(list(steps)), lengths, torch.cat(targets), target_lengths)

    @override
    def predict(self, model: Any, batch: Recordings) -> list[Any]:
        log_p, lengths = model(batch.steps, batch.lengths).cpu(), batch.lengths.cpu()
        steps = batch.steps.cpu()
        outputs = [self._search(log_p[:T, b].numpy()) for b, T in enumerate(lengths.tolist())]
        sizes = torch.tensor([len(symbols) for symbols in outputs])
        targets = torch.tensor([symbol for symbols in outputs for symbol in symbols], dtype=torch.long)
        nats = ctc_loss(log_p, targets, lengths, sizes, ctc.BLANK, reduction="none")
        confidence = (-nats / sizes.clamp(min=1)).exp().tolist()
        return [
            TranscribePrediction(
                "".join(self.characters[symbol - 1] for symbol in symbols),
                confidence[b],
                log_p[:T, b].numpy(),
                steps[:T, b].numpy(),
            )
            for b, (symbols, T) in enumerate(zip(outputs, lengths.tolist(), strict=True))
        ]

    def _search(self, log_p: NDArray[Any]) -> list[int]:
        if self.beam == 1 and not self.ngram_weight:
            return ctc.best_path(log_p)
        return ctc.search(log_p, self.beam, self.language if self.ngram_weight else None, self.ngram_weight)

    @override
    def check_targets(self, examples: Sequence[Example]) -> None:
        """Print how many characters of the targets are not in the alphabet."""
        counts = Counter(c for example in examples for c in example.target if c not in self.number)
        if counts:
            most_common = ", ".join(repr(character) for character, _ in counts.most_common(8))
            note(f"{counts.total():,} characters are not in the training part and count as errors: {most_common}")

    @override
    def to_row(self, prediction: TranscribePrediction) -> dict[str, Any]:
        return {"text": prediction.text, "confidence": round(prediction.confidence, 4)}


def _normalized(energies: Tensor, normalize: str) -> Tensor:
    return energies - energies.mean(0) if normalize == "per_feature" else energies


def _numbers(characters: str) -> dict[str, int]:
    """Return the number of each character, from 1; 0 is the blank."""
    return {character: i for i, character in enumerate(characters, 1)}
