"""Speech recognition with connectionist temporal classification."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from elman.data.examples import Example, is_files
from elman.data.tables import sources
from elman.data.validation import is_table, sides
from elman.errors import BadInput
from elman.extras import needs
from elman.tasks.supervised import SupervisedTask
from elman.tasks.transcribe import data as recordings
from elman.tasks.transcribe.baselines import fit_baselines, load_baselines
from elman.tasks.transcribe.codec import TranscribeCodec
from elman.tasks.transcribe.export import export
from elman.tasks.transcribe.model import Transcriber
from elman.tasks.transcribe.options import TranscribeOptions
from elman.tasks.transcribe.plots import ALIGNMENT
from elman.tasks.transcribe.prediction import TranscribePrediction


def resolve(data: Any, options: TranscribeOptions, tell: Callable[[str], Any]) -> tuple[TranscribeOptions, Any]:
    """Check early that data to split by groups have a column of groups."""
    if options.group and (is_files(data) or is_table(data)):
        recordings.check_group(sources(data)[0], options)
    return options, data


def read(data: Any, options: TranscribeOptions) -> Iterable[Example]:
    """Read recordings with texts: tables of files, a data frame, or recordings, texts and optional groups."""
    if data is None:
        raise BadInput("transcribe: expected DATA, a table of recordings and their texts; got none")
    if is_files(data) or is_table(data):
        return recordings.read(sources(data), options)
    return recordings.read_pairs(options, *sides("transcribe", data, "recordings", "texts", "groups"))


def metrics(
    codec: TranscribeCodec, predictions: Sequence[TranscribePrediction], targets: Sequence[str]
) -> dict[str, float]:
    """Return word and character error rates: insertions, deletions and substitutions as a share of the target."""
    with needs("speech", "the task transcribe"):
        from jiwer import cer, wer

    texts, references = [prediction.text for prediction in predictions], list(targets)
    return {"word_error_rate": float(wer(references, texts)), "character_error_rate": float(cer(references, texts))}


TASK = SupervisedTask(
    name="transcribe",
    description="a speech recognizer",
    options=TranscribeOptions,
    resolve=resolve,
    read=read,
    parse_input=recordings.parse_input,
    codec=TranscribeCodec,
    model=Transcriber,
    unit="characters",
    examples="recordings",
    loss="nats_per_character",
    score="-word_error_rate",
    metrics=metrics,
    fit_baselines=fit_baselines,
    load_baselines=load_baselines,
    export=export,
    json_inputs=list[list[float]],  # recordings
    plots=(ALIGNMENT,),
    input_name="recording",
    option_units={"rate": "samples a second", "bands": "", "stack": "frames", "beam": "texts"},
    next_step="to use it: elman predict {run} RECORDING",
)
