
"use strict";

// The pieces that byte pairs are merged within, as the tokenizers of GPT-2 split a text.
const BYTE_LEVEL = /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+/gu;

/** Return the tokenizer of a tokenizer.json of elman: characters, words, or byte pairs. */
function readTokenizer({ model, pre_tokenizer: split }) {
  return model.type === "BPE" ? bytePairs(model) : table(model, split.pattern.Regex);
}

/** Characters or words: each piece of a text is a token. */
function table({ vocab, unk_token: unknownToken }, pattern) {
  const pieces = new RegExp(pattern.replace(/\\x\{/g, "\\u{"), "gu");
  const ids = new Map(Object.entries(vocab));
  const texts = inverse(ids);
  return {
    never: ids.get(unknownToken),
    encode(text) {
      const found = text.match(pieces) ?? [];
      if (found.length && !ids.has(found[0]) && ids.has(" " + found[0])) found[0] = " " + found[0];
      return {
        ids: found.filter((piece) => ids.has(piece)).map((piece) => ids.get(piece)),
        unknown: [...new Set(found.filter((piece) => !ids.has(piece)))],
      };
    },
    decoder: () => (id) => texts[id],
  };
}

/** Pairs of bytes, merged in the order of training; a character of a token stands for each byte. */
function bytePairs({ vocab, merges }) {
  const ids = new Map(Object.entries(vocab));
  const texts = inverse(ids);
  const ranks = new Map(merges.map((pair, rank) => [pair.join(" "), rank]));
  const letters = byteLetters();
  const bytes = new Map(letters.map((letter, byte) => [letter, byte]));

  function merged(piece) {
    const parts = Array.from(new TextEncoder().encode(piece), (byte) => letters[byte]);
    for (;;) {
      let best = Infinity, at = -1;
      for (let i = 0; i + 1 < parts.length; i++) {
        const rank = ranks.get(`${parts[i]} ${parts[i + 1]}`) ?? Infinity;
        if (rank < best) [best, at] = [rank, i];
      }
      if (at < 0) return parts;
      parts.splice(at, 2, parts[at] + parts[at + 1]);
    }
  }

  return {
    encode: (text) => ({
      ids: (text.match(BYTE_LEVEL) ?? []).flatMap(merged).map((token) => ids.get(token)),
      unknown: [],
    }),
    decoder() {
      const decoder = new TextDecoder(); // keeps the bytes of an incomplete character
      return (id) => decoder.decode(Uint8Array.from(texts[id], (letter) => bytes.get(letter)), { stream: true });
    },
  };
}

/** Return the printable character that stands for each byte. */
function byteLetters() {
  let next = 256;
  const isPrintable = (byte) => (byte > 32 && byte < 127) || (byte > 160 && byte !== 173);
  return Array.from({ length: 256 }, (_, byte) => String.fromCharCode(isPrintable(byte) ? byte : next++));
}

function inverse(ids) {
  const texts = [];
  for (const [text, id] of ids) texts[id] = text;
  return texts;
}
