"""Language modelling."""

import io
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from tokenizers import Tokenizer
from torch import nn
from typing_extensions import override

from elman.data import tokenizers
from elman.data.batches import RepeatedEpoch
from elman.data.examples import check_texts, is_files
from elman.data.stored_text import StoredText
from elman.data.streams import streams
from elman.data.validation import described, quoted
from elman.errors import BadInput
from elman.flow import Recording, record
from elman.io.files import check_new, write_new
from elman.io.run_folder import Run
from elman.io.schema import restoring
from elman.report.shown import Missing, Sample, Scores
from elman.tasks.codec import check_model_args
from elman.tasks.task import Generation, Loaded, PreparedData, Task, files_to_store, parts_in, with_resolved_parts
from elman.tasks.text import corpus as corpora
from elman.tasks.text import sample, score, streamed
from elman.tasks.text.baseline import NgramBaseline
from elman.tasks.text.corpus import Corpus
from elman.tasks.text.ensemble import Ensemble, fit_weight, mean_nats, network_of
from elman.tasks.text.export import export
from elman.tasks.text.model import LanguageModel
from elman.tasks.text.options import TextOptions
from elman.tasks.text.score import evaluation_streams
from elman.training.devices import device_of

MAX_ORDER = {"char": 10, "word": 4, "bpe": 6}  # of the n-gram baselines to try
TEMPERATURES = (0.5, 0.8, 1.1)
SAMPLE_LENGTH = {"char": 400, "word": 90, "bpe": 150}  # tokens: about six lines
SEED = 1
DEFAULT_LENGTH = 500  # tokens to generate


class TextTask(Task):
    """Language modelling in parallel streams of a text, with truncated BPTT."""

    @override
    def prepare(
        self,
        data: Any,
        options: TextOptions,
        seed: int,
        run: Run | None = None,
        tell: Callable[[str], Any] | None = None,
        base: Run | None = None,
    ) -> PreparedData:
        """Split a text: the first eight tenths are the training part. With --stream, a hash of each row decides."""
        if run and "test_tokens" not in run.config["data"]:
            raise BadInput(
                f"{run.path}: expected a run with a test part, got one of an earlier version; train a new one"
            )
        options = with_resolved_parts(options)
        texts = {part: corpora.read(_single_text(text), options.encoding) for part, text in parts_in(options).items()}
        tokenizer = self.load_codec(codec_run) if (codec_run := run or base) else None
        if options.stream:
            return streamed.prepare(data, options, seed, tokenizer, texts)
        file = _single_text(data)
        name = _name_of(file)
        text = corpora.read(file, options.encoding)
        corpus = corpora.prepare(text, name, options.tokens, options.vocabulary, tokenizer, texts)
        minimum = options.batch * options.bptt + 1
        if len(corpus.train) < minimum:
            raise BadInput(
                f"{name}: expected at least {minimum:,} tokens for training (--batch {options.batch} streams of --bptt "
                f"{options.bptt} steps, and one more), got {len(corpus.train):,}; pass a longer text, or a smaller "
                "--batch or --bptt"
            )
        facts = {
            "files": files_to_store(data, options),
            **corpus.sha256,
            "characters": corpus.characters,
            "train_tokens": len(corpus.train),
            "validation_tokens": len(corpus.validation.ids),
            "test_tokens": len(corpus.test.ids),
        }
        vocabulary = corpus.tokenizer.get_vocab_size()
        num_known = vocabulary - (corpus.tokenizer.token_to_id(tokenizers.UNKNOWN) is not None)
        summary = (
            f"{corpus.characters:,} characters; {len(corpus.train):,} tokens for training, "
            f"{len(corpus.validation.ids):,} for validation, {len(corpus.test.ids):,} for test; {num_known:,} distinct "
            "tokens"
        )
        train = RepeatedEpoch(streams(corpus.train, options.batch, options.bptt))
        validation = RepeatedEpoch(evaluation_streams(corpus.validation.ids))
        files = {"tokenizer.json": corpus.tokenizer.to_str()}
        details = (corpus, options.tokens)
        args = options.model_args(vocabulary)
        return PreparedData(name, facts, args, summary, options, train, validation, files, details)

    @override
    def load_codec(self, run: Run) -> Tokenizer:
        """Load the tokenizer of a run."""
        path = run.path / "tokenizer.json"
        tokenizer = tokenizers.load(run.files.check(path.name))
        check_model_args(run, self.options_of(run).model_args(tokenizer.get_vocab_size()), path)
        return tokenizer

    @override
    def score_run(self, run: Run, model: nn.Module, data: PreparedData, console: Console) -> Scores:
        corpus: Corpus
        corpus, kind = data.details
        with console.status("fitting the n-gram baseline"):
            vocabulary = corpus.tokenizer.get_vocab_size()
            parts = (corpus.train, corpus.validation.ids)
            baseline = NgramBaseline.fit(*parts, vocabulary, MAX_ORDER[kind], corpus.is_sample)
        if data.options.ensemble:
            network: Any = model
            ids = corpus.validation.ids
            baseline = replace(baseline, weight=fit_weight(_network_nats(network, ids, console), baseline.nats(ids)))
        run.save_tensors("baseline", {name: torch.from_numpy(array) for name, array in baseline.tensors().items()})
        return self._scores(_with_ngram(model, baseline), corpus.test, baseline, console)

    @override
    def baseline_losses(self, run: Run, data: PreparedData, scores: Scores) -> dict[str, float]:
        validation, baseline = data.details[0].validation, _baseline(run)
        return {baseline.title: float(baseline.nats(validation.ids).mean())}

    @override
    def load(self, run: Run, device: torch.device | str = "cpu") -> Loaded:
        """Load a model; that of a training with --ensemble is one with the n-gram, once this is fitted."""
        loaded = super().load(run, device)
        is_fitted = run.config.get("ended") or (run.path / "baseline.safetensors").exists()
        if not loaded.options.ensemble or not is_fitted:
            return loaded
        return replace(loaded, model=_with_ngram(loaded.model, _baseline(run)).eval())

    @override
    def evaluate(self, loaded: Loaded, data: Any, console: Console) -> Scores:
        file = _single_text(data)
        assert file is not None
        text = score.ScoredText.of(loaded.codec, corpora.read(file, loaded.options.encoding))
        if len(text.ids) < 2:
            raise BadInput(f"{_name_of(file)}: expected at least 2 tokens, got {len(text.ids)}")
        baseline = _baseline(loaded.run) if self.has_baselines(loaded.run) else None
        return self._scores(loaded.model, text, baseline, console)

    def _scores(self, model: Any, text: score.ScoredText, baseline: NgramBaseline | None, console: Console) -> Scores:
        network = network_of(model)
        nats = {str(network.title): _network_nats(network, text.ids, console)}
        if baseline is not None:
            nats[baseline.title] = baseline.nats(text.ids)
        if isinstance(model, Ensemble):
            of_network, of_ngram = nats.values()
            nats = {model.title: mean_nats(of_network, of_ngram, model.weight)} | nats
        return score.scores(text, nats, console)

    @override
    def record_flow(self, loaded: Loaded, data: Any, steps: int, sequences: int) -> tuple[Recording, str]:
        """Record parallel pieces of the text; of streamed texts, of their beginning."""
        if data is None and loaded.options.stream:
            return self._record_stream(loaded, steps, sequences)
        file = _single_text(self.training_data(loaded.run) if data is None else data)
        name = _name_of(file)
        text = StoredText(corpora.read(file, loaded.options.encoding))
        if data is None and text.sha256 != loaded.run.config["data"].get("sha256"):
            raise BadInput(f"{name} has changed since this run was trained on it")
        ids = tokenizers.encode(loaded.codec, text)
        if len(ids) <= steps and data is not None:
            raise BadInput(f"{name}: expected more than {steps} tokens (--steps), got {len(ids)}; pass fewer --steps")
        steps = min(steps, len(ids) - 1)
        sequences = min(sequences, (len(ids) - 1) // steps)
        recording = _record(loaded.model, ids, steps, sequences)
        return recording, f"a batch of {sequences} sequences of {steps} steps of {name}"

    def _record_stream(self, loaded: Loaded, steps: int, sequences: int) -> tuple[Recording, str]:
        run, ids, least = loaded.run, np.zeros(0, np.int32), steps * sequences + 1
        stream = streamed.text_stream(self.training_data(run), loaded.options, self.training_of(run).seed)
        for text in streamed.first_texts(stream):
            ids = np.concatenate((ids, tokenizers.encode(loaded.codec, text)))
            if len(ids) >= least:
                break
        steps = min(steps, len(ids) - 1)
        sequences = min(sequences, (len(ids) - 1) // steps)
        recording = _record(loaded.model, ids[:least], steps, sequences)
        return recording, f"a batch of {sequences} sequences of {steps} steps of {run.config['data'].get('name')}"

    @override
    def samples(self, loaded: Loaded, console: Console) -> tuple[Sample, ...] | Missing:
        """Sample texts at several temperatures."""
        length = SAMPLE_LENGTH.get(loaded.options.tokens, max(SAMPLE_LENGTH.values()))
        begin = tokenizers.encode(loaded.codec, tokenizers.split_known(loaded.codec, "\n")[0]).tolist() or [1]
        never = loaded.codec.token_to_id(tokenizers.UNKNOWN)
        samples = []
        for temperature in TEMPERATURES:
            tokens = sample.generate(loaded.model, begin, length, temperature, seed=SEED, never=never)
            title = f"temperature {temperature:g}, {length} tokens, seed {SEED}"
            samples.append(Sample(title, loaded.codec.decode(list(tokens))))
        return tuple(samples)

    @override
    def generate(
        self, loaded: Loaded, prompt: Any, length: int | None, out: Path | None, to: TextIO, **sampling: Any
    ) -> Any:
        """Print a text as it is generated, or write it to a file."""
        check_texts("--prompt", prompt)
        begin, count = "\n" if prompt is None else prompt, DEFAULT_LENGTH if length is None else length
        if out:
            check_new(out, "--out ")
        text = sample.write(loaded.model, loaded.codec, begin, count, to=io.StringIO() if out else to, **sampling)
        if out:
            write_new(out, [text, "\n"], "--out ")
        return text

    @override
    def start_generation(self, loaded: Loaded, seed: int | None) -> Generation:
        return sample.TextGeneration(loaded.model, loaded.codec, seed)


TASK = TextTask(
    name="text",
    description="a language model",
    options=TextOptions,
    model=LanguageModel,
    unit="tokens",
    loss="nats_per_token",
    score="-nats_per_token",
    accepts_texts=True,
    export=export,
    option_units={
        "characters": "", "train_tokens": "", "validation_tokens": "", "test_tokens": "", "vocabulary": "tokens",
        "embed": "wide", "hidden": "wide", "bptt": "steps", "batch": "streams",
    },
    next_step="to write: elman generate {run}",
)  # fmt: skip


def _single_text(data: Any) -> Path | TextIO | None:
    """Return the single text of the data; None if data is None.

    Raises:
        BadInput: for several files, and for anything that is not a text.
    """
    if data is None or hasattr(data, "read"):
        file: TextIO | None = data
        return file
    if not is_files(data):
        raise BadInput(f"text: expected a file, or a text as io.StringIO(text); got {described(data)}")
    if not any(map(_exists, data)) and re.search(r"\s|.{100}", str(data[0])):
        raise BadInput(
            f"text: expected a file, but {quoted(str(data[0]))} does not exist; to pass a text itself, use "
            "io.StringIO(text)"
        )
    if len(data) > 1:
        raise BadInput(f"{data[1]}: expected one text, got {len(data)} files")
    return data[0]


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a text may be too long for a file name
        return False


def _name_of(source: Path | TextIO | None) -> str:
    return corpora.DEFAULT_NAME if source is None else str(source) if isinstance(source, Path) else "a text in Python"


def _baseline(run: Run) -> NgramBaseline:
    tensors = {name: tensor.numpy() for name, tensor in run.load_tensors("baseline").items()}
    with restoring(run.path / "baseline.safetensors", "an n-gram"):
        return NgramBaseline.from_tensors(tensors)


def _with_ngram(model: Any, baseline: NgramBaseline) -> Any:
    """Return the ensemble of a network and the n-gram if the baseline has its weight, and the network otherwise."""
    return model if baseline.weight is None else Ensemble(model, baseline.model, baseline.weight)


def _network_nats(network: LanguageModel, ids: NDArray[np.int32], console: Console) -> NDArray[np.float64]:
    return score.nats(network, ids, console if console.is_terminal else None)


def _record(model: Any, ids: NDArray[np.integer], steps: int, sequences: int) -> Recording:
    model = network_of(model)
    with record(model) as recording:
        loss, count, _ = model.loss(streams(ids, sequences, steps)[0].to(device_of(model)), None)
        (loss / count).backward()
    return recording
