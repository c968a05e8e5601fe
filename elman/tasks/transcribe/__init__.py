"""Speech to text.

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
    "N recordings and N texts, as a tuple, with N groups as a third if some belong together; or a manifest, as "
    "for `elman train transcribe`. A recording is a row of numbers at `rate` samples a second, -1 to 1 where "
    "they are no whole numbers; or a file, at any rate.",
)
fit = _functions.fit(TranscribeFitOptions)
evaluate = _functions.evaluate()
predict = _functions.predict()
load = _functions.load()
