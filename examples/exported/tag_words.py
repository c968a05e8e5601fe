"""Tag sentences with an exported tagger: python tag_words.py FOLDER SENTENCE ...

FOLDER is from `elman export RUN`. This needs numpy and onnxruntime; neither torch nor elman.
"""

import json
import re
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from onnxruntime import InferenceSession

folder, sentences = Path(sys.argv[1]), sys.argv[2:]
settings = json.loads((folder / "export.json").read_text(encoding="utf-8"))["settings"]
model = InferenceSession(folder / "model.onnx")
number, character = ({entry: i for i, entry in enumerate(settings[name], 1)} for name in ("words", "characters"))


def best_labels(scores: NDArray[np.float32]) -> list[int]:
    """Return the numbers of the labels with the highest score together, from logits (T, K)."""
    crf = {name: np.array(values) for name, values in settings.get("crf", {}).items()}
    if not crf:
        return [int(k) for k in scores.argmax(1)]
    best, previous = crf["begin"] + scores[0], []
    for row in scores[1:]:  # the Viterbi algorithm
        extended = best[:, None] + crf["transitions"]
        previous.append(extended.argmax(0))
        best = extended.max(0) + row
    path = [int((best + crf["end"]).argmax())]
    for before in reversed(previous):
        path.append(int(before[path[-1]]))
    return path[::-1]


for sentence in sentences:
    tokens = re.findall(settings["word_pattern"], sentence)
    words = np.array([[number.get(word.lower(), 0)] for word in tokens])
    counts = np.array([[len(word)] for word in tokens])
    spelled = np.zeros((len(tokens), 1, counts.max()), np.int64)
    for t, word in enumerate(tokens):
        spelled[t, 0, : len(word)] = [character.get(letter, 0) for letter in word]
    inputs = {"words": words, "characters": spelled, "character_counts": counts, "lengths": np.array([len(tokens)])}
    [logits] = model.run(["logits"], inputs)
    for word, label in zip(tokens, best_labels(logits[:, 0]), strict=True):
        print(f"{word}\t{settings['labels'][label]}")
    print()
