"""Recordings to texts as a task."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import ctc_loss
from torch.nn.utils.rnn import pad_sequence
from typing_extensions import override

from elman.data import filter_banks
from elman.data.examples import Example, is_files
from elman.data.tables import sources
from elman.data.validation import is_table, sides
from elman.decoding import ctc
from elman.errors import BadInput
from elman.io.run_folder import Run
from elman.io.terminal import show
from elman.tasks.codec import Codec
from elman.tasks.supervised import Baseline, SupervisedTask
from elman.tasks.transcribe import data as sounds
from elman.tasks.transcribe import picture
from elman.tasks.transcribe.baseline import Nearest
from elman.tasks.transcribe.language import Language
from elman.tasks.transcribe.model import Recordings, Transcriber
from elman.tasks.transcribe.options import TranscribeOptions
from elman.tasks.transcribe.prediction import TranscribePrediction


@dataclass(frozen=True)
class TranscribeCodec(Codec):
    """How sound becomes steps, which characters there are, and how a text is found."""

    rate: int
    stack: int
    mean: list[float]
    std: list[float]
    characters: str
    beam: int
    ngram_weight: float
    language: Language

    def kept(self) -> dict[str, Any]:
        """For JSON."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return fields | {"language": self.language.kept()}

    @classmethod
    @override
    def restored(cls, kept: dict[str, Any]) -> "TranscribeCodec":
        return cls(**kept | {"language": Language.restored(kept["language"])})

    @override
    def check(self) -> None:
        super().check()
        if len(self.mean) != len(self.std) or min(self.std, default=1.0) <= 0:
            raise ValueError(f"{len(self.mean)} means and {len(self.std)} deviations, or such as are not above 0")

    @cached_property
    def number(self) -> dict[str, int]:
        """Of each character."""
        return _numbers(self.characters)

    def symbols(self, text: str) -> list[int]:
        """Those of the characters that are known."""
        return [self.number[character] for character in text if character in self.number]

    def frames(self, steps: NDArray[np.float32]) -> NDArray[np.float32]:
        """The log-mel energies (t, M) that steps (T, D) were made of."""
        return steps.reshape(-1, len(self.mean)) * np.array(self.std, np.float32) + np.array(self.mean, np.float32)

    def steps(self, wave: filter_banks.Wave) -> Tensor:
        """(T, D), every band with the mean 0 and the deviation 1 that it had in training."""
        x = filter_banks.frames(wave, self.rate, len(self.mean))
        return filter_banks.stacked((x - torch.tensor(self.mean)) / torch.tensor(self.std), self.stack)


def _numbers(characters: str) -> dict[str, int]:
    """Of each character, from 1; 0 is the blank."""
    return {character: i for i, character in enumerate(characters, 1)}


class Transcribe(SupervisedTask):
    """What a recording says."""

    name = "transcribe"
    unit = "characters"
    examples = "recordings"
    one = "recording"
    loss = "nats_per_character"
    what = "a transcriber"
    options = TranscribeOptions
    pictures: ClassVar = {"path.png": "A recording of the test part, and which symbol was likeliest when."}
    codec_type = TranscribeCodec
    next = "to use it: elman predict {run} RECORDING"
    units: ClassVar = {"rate": "samples a second", "bands": "", "stack": "frames", "beam": "texts"}

    def settled(self, data: Any, options: TranscribeOptions, tell: Callable[[str], Any] = show) -> TranscribeOptions:
        """As there, once it is sure that what is to be split by groups has some."""
        options = super().settled(data, options, tell)
        if options.group and (is_files(data) or is_table(data)):
            sounds.check_group(sources(data)[0], options)
        return options

    def read(self, data: Any, options: TranscribeOptions) -> Iterable[Example]:
        """As there; in Python, recordings and texts, and perhaps groups."""
        if data is None:
            raise BadInput("transcribe: expected DATA, a table of recordings and their texts; got none")
        if is_files(data) or is_table(data):
            return sounds.read(sources(data), options)
        return sounds.pairs(options, *sides(self.name, data, "recordings", "texts", "groups"))

    @override
    def fit(self, train: Sequence[Example], options: TranscribeOptions) -> TranscribeCodec:
        mean, std = filter_banks.spread(filter_banks.frames(e.input, options.rate, options.bands) for e in train)
        characters = "".join(sorted({character for example in train for character in example.target}))
        number = _numbers(characters)
        language = Language.fit([[number[c] for c in e.target] for e in train], len(characters) + 1)
        how = (options.beam, options.ngram_weight)
        return TranscribeCodec(options.rate, options.stack, mean, std, characters, *how, language)

    @override
    def shape(self, codec: TranscribeCodec, options: TranscribeOptions) -> dict[str, Any]:
        names = ("cell", "hidden", "layers", "dropout", "time_mask", "band_mask", "bptt")
        sizes = {"bands": len(codec.mean), "frames": codec.stack, "symbols": len(codec.characters) + 1}
        return sizes | {name: getattr(options, name) for name in names}

    @override
    def model(self, **shape: Any) -> Transcriber:
        return Transcriber(**shape)

    def encode(self, codec: TranscribeCodec, example: Example) -> tuple[tuple[Tensor, Tensor], int]:
        """As there: steps (T, D), and the symbols of the text."""
        steps = codec.steps(example.input)
        return (steps, torch.tensor(codec.symbols(example.target or ""), dtype=torch.long)), len(steps)

    @override
    def collate(self, encoded: Sequence[tuple[Tensor, Tensor]]) -> Recordings:
        steps, targets = zip(*encoded, strict=True)
        lengths, target_lengths = (torch.tensor([len(row) for row in rows]) for rows in (steps, targets))
        return Recordings(pad_sequence(list(steps)), lengths, torch.cat(targets), target_lengths)

    def check(self, codec: TranscribeCodec, examples: Sequence[Example]) -> None:
        """Tell of characters that the model cannot write."""
        counts = Counter(c for example in examples for c in example.target if c not in codec.number)
        if counts:
            most = ", ".join(repr(character) for character, _ in counts.most_common(8))
            show(f"{counts.total():,} characters were not there to be learned and count as errors: {most}")

    @override
    def say(self, model: Any, codec: TranscribeCodec, batch: Recordings) -> list[Any]:
        log_p = model(batch.steps, batch.lengths)
        found = [self._written(codec, log_p[:T, b].numpy()) for b, T in enumerate(batch.lengths.tolist())]
        sizes = torch.tensor([len(symbols) for symbols in found])
        targets = torch.tensor([symbol for symbols in found for symbol in symbols], dtype=torch.long)
        nats = ctc_loss(log_p, targets, batch.lengths, sizes, ctc.BLANK, reduction="none")
        confidence = (-nats / sizes.clamp(min=1)).exp().tolist()
        return [
            TranscribePrediction(
                "".join(codec.characters[symbol - 1] for symbol in symbols),
                confidence[b],
                log_p[:T, b].numpy(),
                batch.steps[:T, b].numpy(),
            )
            for b, (symbols, T) in enumerate(zip(found, batch.lengths.tolist(), strict=True))
        ]

    def _written(self, codec: TranscribeCodec, log_p: NDArray[Any]) -> list[int]:
        if codec.beam == 1 and not codec.ngram_weight:
            return ctc.best_path(log_p)
        return ctc.search(log_p, codec.beam, codec.language if codec.ngram_weight else None, codec.ngram_weight)

    def measure(
        self, codec: TranscribeCodec, said: Sequence[TranscribePrediction], targets: Sequence[str]
    ) -> dict[str, float]:
        """Words, and characters, that would have to be put in, left out or replaced, as a share of the right ones."""
        from jiwer import cer, wer

        texts, right = [one.text for one in said], list(targets)
        return {"word_error_rate": float(wer(right, texts)), "character_error_rate": float(cer(right, texts))}

    def baselines(
        self, codec: TranscribeCodec, train: Sequence[Example], options: TranscribeOptions, seed: int
    ) -> list[Baseline]:
        """The text of the recording that sounds most alike."""
        return [Nearest.fit(_steps, codec, train)]

    @override
    def restored(self, codec: TranscribeCodec, tensors: dict[str, Tensor]) -> list[Baseline]:
        return [Nearest.restored(_steps, codec, tensors)]

    def row(self, codec: TranscribeCodec, said: TranscribePrediction) -> dict[str, Any]:
        """The text, and how sure the network is of it."""
        return {"text": said.text, "confidence": round(said.confidence, 4)}

    def given(self, what: Any, options: TranscribeOptions) -> Example:
        """As there: a file; in Python, a row of numbers at the options' rate."""
        return sounds.given(what, options)

    def draw(
        self, run: Run, codec: TranscribeCodec, said: Sequence[TranscribePrediction], targets: Sequence[str]
    ) -> None:
        """path.png: of a recording, its sound, and which symbol was likeliest when."""
        i = picture.choose(said, targets)
        steps = said[i].steps
        assert steps is not None
        path = run.path / "path.png"
        picture.draw(path, said[i], targets[i], codec.frames(steps), codec.rate, codec.characters)


def _steps(codec: TranscribeCodec, example: Example) -> NDArray[np.float32]:
    found: NDArray[np.float32] = codec.steps(example.input).numpy()
    return found


TASK = Transcribe()
