"""Music modelling: predict the next frame of notes, or the next event.

>>> import tempfile
>>> pieces = [[[60 + k], [64 + k], [67 + k], []] * 4 for k in range(12)]
>>> arpeggios = fit(pieces, tempfile.mkdtemp(), epochs=2, batch=4, hidden=16)
>>> [row["frames"] for row in arpeggios.predict(pieces[:2])]
[16, 16]
"""

from elman.tasks.functions import TaskFunctions
from elman.tasks.music.options import MusicFitOptions

_functions = TaskFunctions(
    "music",
    "a list of pieces; or a dictionary of such lists, with the keys 'train', 'valid' and 'test'; or files, as for "
    "`elman train music`. A piece is a list of frames, each a list of MIDI pitches; or an array (T, 128) that is "
    "not 0 where a pitch sounds.",
)
fit = _functions.fit(MusicFitOptions)
evaluate = _functions.evaluate()
predict = _functions.predict()
generate = _functions.generate()
load = _functions.load()
