"""Classify texts with an exported text classifier: python classify_text.py FOLDER TEXT ...

FOLDER is from `elman export RUN`. This needs numpy and onnxruntime; neither torch nor elman.
"""

import json
import re
import sys
from pathlib import Path
from zlib import crc32

import numpy as np
from onnxruntime import InferenceSession

folder, texts = Path(sys.argv[1]), sys.argv[2:]
settings = json.loads((folder / "export.json").read_text(encoding="utf-8"))["settings"]
model = InferenceSession(folder / "model.onnx")
number = {word: i for i, word in enumerate(settings["words"], 1)}  # 0: all other words


def grams(word: str) -> list[int]:
    marked = f"<{word}>"
    pieces = [marked[i : i + n] for n in settings["gram_sizes"] for i in range(len(marked) - n + 1)]
    return [crc32(piece.encode()) % settings["pieces"] for piece in pieces]


sentences = [re.findall(settings["word_pattern"], text.lower()) or [""] for text in texts]
spellings = [[grams(word) for word in words] for words in sentences]
T, B = max(map(len, sentences)), len(texts)
words, counts = np.zeros((T, B), np.int64), np.zeros((T, B), np.int64)
all_grams = np.zeros((T, B, max(len(word) for words in spellings for word in words)), np.int64)
for b, sentence in enumerate(sentences):
    for t, word in enumerate(sentence):
        words[t, b], counts[t, b] = number.get(word, 0), len(spellings[b][t])
        all_grams[t, b, : counts[t, b]] = spellings[b][t]
lengths = np.array([len(sentence) for sentence in sentences])
inputs = {"words": words, "grams": all_grams, "gram_counts": counts, "lengths": lengths}
if "pairs" in settings:
    pair_number = {pair: i for i, pair in enumerate(settings["pairs"], 1)}
    inputs["pairs"] = np.zeros((T, B), np.int64)
    for b, sentence in enumerate(sentences):
        for t, pair in enumerate(zip(["", *sentence], sentence, strict=False)):
            inputs["pairs"][t, b] = pair_number.get(" ".join(pair), 0)
[logits] = model.run(["logits"], inputs)
if settings.get("multi_label"):  # each label has a probability of its own
    for text, p in zip(texts, 1 / (1 + np.exp(-logits)), strict=True):
        chosen = [f"{settings['labels'][k]} {p[k]:.4f}" for k in np.argsort(-p) if p[k] >= settings["threshold"]]
        print(f"{', '.join(chosen)}\t{text}")
else:
    P = np.exp(logits - logits.max(1, keepdims=True))
    for text, p in zip(texts, P / P.sum(1, keepdims=True), strict=True):
        print(f"{settings['labels'][p.argmax()]}\t{p.max():.4f}\t{text}")
