"""CLIP's tokenizer: lower-case byte pairs (Radford et al., ICML 2021), with the mask word of IRRA.

`clip_bpe.txt` beside this file lists the merges, the most frequent first.
"""

import functools
import html
import itertools
import logging
import pathlib
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from jaxtyping import Int

MERGES = pathlib.Path(__file__).with_name("clip_bpe.txt")
MASK = 49405
"""Mask word of the retrieval vocabulary; the ordinary word "jekyll" in OpenAI's."""
START = 49406
END = 49407
"""The largest id, so a caption's end is where its ids are largest."""
PAD = 0
"""Also the id of a word-internal "!", which almost never occurs."""
CONTEXT_LENGTH = 77

_SPECIAL = {"<|startoftext|>": START, "<|endoftext|>": END, "<|mask|>": MASK}
_SUFFIX = "</w>"
_CONTRACTION = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d", re.IGNORECASE)


class Tokenizer:
    """Text to CLIP's ids.

    `vocabulary` "retrieval" (IRRA and its descendants): the last merge gives way to the mask word,
    id 49405. Their code drops that merge's entry but keeps the merge, and fails on the word
    "jekyll"; here the merge goes too, and the word is two pieces. "openai": CLIP's own, no mask.

    Literal `<|startoftext|>`, `<|endoftext|>` and `<|mask|>` in a caption become those ids, as in
    the reference.

    Raises:
      ValueError: for another vocabulary.
    """

    def __init__(self, vocabulary: str = "retrieval"):
        if vocabulary not in ("retrieval", "openai"):
            raise ValueError(f"vocabulary {vocabulary!r}: expected 'retrieval' or 'openai'")
        merges = _merges()
        self.special = dict(_SPECIAL)
        if vocabulary == "retrieval":
            merges = merges[:-1]
        else:
            del self.special["<|mask|>"]
        self._rank = {pair: rank for rank, pair in enumerate(merges)}
        symbols = list(_byte_symbols().values())
        words = [*symbols, *(s + _SUFFIX for s in symbols), *("".join(pair) for pair in merges)]
        self._id = {word: number for number, word in enumerate(words)}
        markers = "|".join(map(re.escape, self.special))
        self._marker = re.compile(markers, re.IGNORECASE)
        self._known: dict[str, tuple[int, ...]] = {}
        self._said_truncated = False

    def encode(self, text: str | bytes) -> list[int]:
        """All ids of a text, start and end included, without a limit.

        Raises:
          ValueError: for bytes that are not UTF-8.
        """
        ids = [START]
        for piece in self._split(clean(text)):
            ids += [self.special[piece]] if piece in self.special else self._byte_pairs(piece)
        return [*ids, END]

    def __call__(
        self, texts: str | bytes | Iterable[str | bytes], *, context_length: int = CONTEXT_LENGTH
    ) -> Int[np.ndarray, "N T"]:
        """The ids of one text or of many as int32 [N, context_length], padded with 0.

        A longer text keeps its first ids, and its last place becomes the end; the log says so once.
        An empty text is start and end.

        Raises:
          ValueError: for a context below 2, and, with the row's number, for bytes that are not
            UTF-8.
        """
        if context_length < 2:
            raise ValueError(f"context_length = {context_length}: start and end need 2")
        texts = [texts] if isinstance(texts, str | bytes) else list(texts)
        table = np.full((len(texts), context_length), PAD, np.int32)
        cut = []
        for row, text in enumerate(texts):
            try:
                ids = self.encode(text)
            except ValueError as error:
                raise ValueError(f"text {row}: {error}") from None
            if len(ids) > context_length:
                cut.append(row)
                ids = [*ids[: context_length - 1], END]
            table[row, : len(ids)] = ids
        if cut and not self._said_truncated:
            self._said_truncated = True
            logging.getLogger(__name__).warning(
                "%d of %d texts have more than %d tokens and are cut, as CLIP does (the first: %r)",
                *(len(cut), len(texts), context_length, texts[cut[0]][:60]),
            )
        return table

    def decode(self, ids: Sequence[int] | Int[np.ndarray, " T"]) -> str:
        """The text of ids, for people: start, end and padding are left out, `<|mask|>` is shown."""
        word_of = {number: word for word, number in self._id.items()}
        word_of |= {number: f"{word}{_SUFFIX}" for word, number in self.special.items()}
        byte_of = {symbol: byte for byte, symbol in _byte_symbols().items()}
        words = [int(n) for n in ids if int(n) not in (START, END, PAD)]
        text = "".join(word_of[n] for n in words).replace(_SUFFIX, " ")
        raw = bytes(b for c in text for b in ([byte_of[c]] if c in byte_of else c.encode()))
        return raw.decode("utf-8", errors="replace").strip()

    def _split(self, text: str) -> Iterator[str]:
        """Markers, contractions, runs of letters, single digits, runs of anything else.

        The reference splits by a pattern with Unicode classes, which Python's own `re` lacks.
        """
        at = 0
        while at < len(text):
            match = self._marker.match(text, at) or _CONTRACTION.match(text, at)
            if match:
                yield match[0]
                at = match.end()
                continue
            kind, end = _kind(text[at]), at + 1
            while kind in "LO" and end < len(text) and _kind(text[end]) == kind:
                end += 1
            if kind != " ":
                yield text[at:end]
            at = end

    def _byte_pairs(self, piece: str) -> tuple[int, ...]:
        """The piece's UTF-8 bytes, neighbours merged by rank until no pair is known."""
        if piece in self._known:
            return self._known[piece]
        symbol = _byte_symbols()
        parts = [symbol[byte] for byte in piece.encode("utf-8")]
        parts[-1] += _SUFFIX
        unknown = len(self._rank)
        while len(parts) > 1:
            pairs = list(itertools.pairwise(parts))
            best = min(pairs, key=lambda pair: self._rank.get(pair, unknown))
            if best not in self._rank:
                break
            merged, at = [], 0
            while at < len(parts):
                if tuple(parts[at : at + 2]) == best:
                    merged.append("".join(best))
                    at += 2
                else:
                    merged.append(parts[at])
                    at += 1
            parts = merged
        if len(self._known) >= 65536:
            self._known.clear()
        self._known[piece] = tuple(self._id[part] for part in parts)
        return self._known[piece]


def clean(text: str | bytes) -> str:
    """Text as CLIP sees it: mended (ftfy), HTML entities resolved, one space between words, lower
    case.

    Raises:
      ValueError: for bytes that are not UTF-8.
    """
    if isinstance(text, bytes):
        try:
            text = text.decode("utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(
                f"{text[:40]!r} is not UTF-8 (byte {error.start}); convert it, for instance by "
                ".decode('latin-1')"
            ) from None
    # Imported here: a training step that takes captions as ids does not need it.
    import ftfy

    text = html.unescape(html.unescape(ftfy.fix_text(text))).strip()
    return re.sub(r"\s+", " ", text).strip().lower()


def _kind(character: str) -> str:
    """L letter, N number, space, O anything else."""
    major = unicodedata.category(character)[0]
    if major in "LN":
        return major
    return " " if character.isspace() else "O"


@functools.cache
def _byte_symbols() -> dict[int, str]:
    """Byte -> a printable character, those that are printable themselves first (GPT-2's table)."""
    own = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in own]
    return {b: chr(b) for b in own} | {b: chr(256 + i) for i, b in enumerate(others)}


@functools.cache
def _merges() -> tuple[tuple[str, str], ...]:
    lines = MERGES.read_text(encoding="utf-8").split("\n")
    return tuple(tuple(line.split()) for line in lines if line)
