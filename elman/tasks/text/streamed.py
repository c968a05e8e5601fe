"""A language model of texts in Parquet or Arrow files of any size, which are read again in every epoch."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from elman.data import tokenizers
from elman.data.batches import RepeatedEpoch
from elman.data.disk_list import DiskList
from elman.data.examples import Example
from elman.data.row_stream import RowStream, no_labels
from elman.data.stored_text import StoredText
from elman.data.streamed_batches import StreamedTokens
from elman.data.validation import quoted
from elman.errors import BadInput
from elman.options import PARTS
from elman.tasks.streamed import described_files, facts_of, row_files, surveyed
from elman.tasks.task import PreparedData, parts_in
from elman.tasks.text.corpus import Corpus
from elman.tasks.text.options import TextOptions
from elman.tasks.text.score import ScoredText, evaluation_streams
from elman.training.processes import gathered, is_first, of_process, place

SAMPLE_BYTES = 1 << 22  # approximate size of the text that the tokenizer and the n-gram baseline are fitted on


def prepare(
    data: Any, options: TextOptions, seed: int, tokenizer: Tokenizer | None, texts: Mapping[str, Iterable[str]]
) -> PreparedData:
    """Survey texts, fit a tokenizer on a sample unless one is given, and count the tokens of every block.

    Args:
        data: files and folders.
        options: the options of the task.
        seed: the random seed of the validation part, and of the order.
        tokenizer: that of a run to resume.
        texts: the texts of "validation" and "test" that are not drawn from the data.

    Raises:
        BadInput: for data that cannot be used.
    """
    stored = {part: StoredText(pieces) for part, pieces in texts.items()}
    stream = text_stream(data, options, seed)
    name = ", ".join(map(str, data))
    # A sample of characters has each of them, as the whole text would.
    survey = surveyed(stream, characters_of if options.tokens == "char" else no_labels, length)
    sample = DiskList(map(text_of, survey.sample()))
    drawn = {part: DiskList(map(text_of, survey.part(part))) for part in stream.parts}
    if not len(sample) or not all(map(len, drawn.values())):
        held_out = " and for ".join(drawn)
        raise BadInput(f"{name}: --stream: expected more rows, of which a tenth are for {held_out}, got too few")
    if tokenizer is None:
        tokenizer = tokenizers.fit(options.tokens, sample, options.vocabulary)
    encode = partial(encoded, tokenizer)
    sizes = survey.sizes if options.tokens == "char" else token_counts(stream, encode)
    scored, tokens = {part: ScoredText.of(tokenizer, text) for part, text in (stored | drawn).items()}, int(sizes.sum())
    train = StreamedTokens(stream, sizes, options.batch, options.bptt, encode, seed)
    if not len(train):
        raise BadInput(
            f"{name}: expected at least {options.batch * options.bptt + 1:,} tokens for training (--batch "
            f"{options.batch} streams of --bptt {options.bptt} steps, and one more), got {tokens:,}; pass more texts, "
            "or a smaller --batch or --bptt"
        )
    characters = int(survey.sizes.sum()) + sum(len(text) for texts in drawn.values() for text in texts)
    facts = facts_of(data, stream, survey.sha256)
    digests = {"sha256": facts["sha256"]} | {f"{part}_sha256": text.sha256 for part, text in stored.items()}
    encoded_sample = tokenizers.encode(tokenizer, sample)
    corpus = Corpus(
        tokenizer, encoded_sample, scored["validation"], scored["test"], characters, digests, is_sample=True
    )
    facts |= digests | {"characters": characters, "train_tokens": tokens}
    facts |= {f"{part}_tokens": len(scored[part].ids) for part in PARTS}
    vocabulary = tokenizer.get_vocab_size()
    num_known = vocabulary - (tokenizer.token_to_id(tokenizers.UNKNOWN) is not None)
    fitted = "the n-gram baseline is" if options.tokens == "char" else "tokens and the n-gram baseline are"
    summary = (
        f"{described_files(stream)}: {characters:,} characters; {tokens:,} tokens for training, "
        f"{len(corpus.validation.ids):,} for validation, {len(corpus.test.ids):,} for test; {num_known:,} distinct "
        f"tokens; {fitted} from a sample of {len(corpus.train):,} tokens"
    )
    batches = RepeatedEpoch(evaluation_streams(corpus.validation.ids))
    saved, args = {"tokenizer.json": tokenizer.to_str()}, options.model_args(vocabulary)
    return PreparedData(name, facts, args, summary, options, train, batches, saved, (corpus, options.tokens))


def text_stream(data: Any, options: TextOptions, seed: int) -> RowStream:
    """Open files of texts.

    Args:
        data: files and folders.
        options: the options of the task.
        seed: the random seed of the validation part.
    """
    files, parts = row_files("text", data, {"--text-column": options.text_column}), parts_in(options)
    return RowStream(files, from_row, [part for part in PARTS if part not in parts], seed, SAMPLE_BYTES, skip_bad=None)


def first_texts(stream: RowStream) -> Iterator[str]:
    """Iterate over the texts for training, in the order of the files."""
    for _, examples in stream.training(range(len(stream.files.groups))):
        yield "".join(map(text_of, examples))


def from_row(text: Any, name: str) -> Example:
    """Make an example of a text. An empty one is an empty line; a missing one is nothing.

    Raises:
        BadInput: for anything else.
    """
    if text is not None and not isinstance(text, str):
        raise BadInput(f"{name}: expected a text, got {quoted(text)}")
    return Example(text, name=name)


def text_of(example: Example) -> str:
    """Return the text of a row, which ends with a newline."""
    text: str | None = example.input
    return "" if text is None else text if text.endswith("\n") else f"{text}\n"


def length(example: Example) -> int:
    """Return the number of characters of a row."""
    return len(text_of(example))


def characters_of(example: Example) -> set[str]:
    """Return the characters of a row."""
    return set(text_of(example))


def encoded(tokenizer: Tokenizer, examples: Sequence[Example]) -> NDArray[np.int32]:
    """Return the tokens of the rows of a block together, (N,)."""
    return tokenizers.encode(tokenizer, "".join(map(text_of, examples)))


def token_counts(stream: RowStream, encode: Any) -> NDArray[np.int64]:
    """Return the number of tokens for training of each block, (K,). All processes call this, and share the work."""
    counts = np.zeros(stream.blocks, np.int64)
    for block, examples in stream.training(stream.groups_of(place().rank, place().world_size)):
        counts[block] = len(encode(examples))
    of_processes = gathered(counts)
    total: NDArray[np.int64] = of_process(np.sum(of_processes, 0) if is_first() else counts)
    return total
