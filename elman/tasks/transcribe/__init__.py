"""Speech recognition: transcribe recordings.

>>> import numpy as np, tempfile
>>> t = np.arange(800) / 8000                      # a tenth of a second
>>> x = [np.sin(pitch * t) for k in range(20) for pitch in (9000 + 50 * k, 1500 + 20 * k)]
>>> sounds = fit((x, ["hi", "lo"] * 20), tempfile.mkdtemp(), epochs=20, batch=4, hidden=16)
>>> [row["text"] for row in sounds.predict(x[:2])]
['hi', 'lo']
"""

from elman.tasks.functions import TaskFunctions
from elman.tasks.transcribe.options import TranscribeFitOptions

_functions = TaskFunctions(
    "transcribe",
    "a tuple of N recordings and N texts, and N groups (such as speakers) if some recordings belong together; or a "
    "manifest, as for `elman train transcribe`. A recording is a row of samples at `rate` samples a second, from -1 "
    "to 1 unless they are integers; or a file with any sample rate.",
)
fit = _functions.fit(TranscribeFitOptions)
evaluate = _functions.evaluate()
predict = _functions.predict()
load = _functions.load()
