"""Lines and tables that fit a terminal."""

import itertools
import textwrap
from collections.abc import Sequence

WIDTH = 100
"""Columns of a terminal that lines and tables fit."""


def fitted(head: str, parts: Sequence[str], tail: str, width: int) -> str:
    """A line of the head, the first parts that fit (one at least) and the tail; "..." for the
    others."""
    for count in range(len(parts), 0, -1):
        cut = ["..."] if count < len(parts) else []
        line = head + "  ".join(filter(None, [*parts[:count], *cut, tail]))
        if len(line) <= width:
            break
    else:
        line = head + "  ".join([*parts, tail])
    return line


def aligned(rows: Sequence[Sequence[str]], width: int = 10**6) -> list[str]:
    """The lines of a table, its cells filled up to the widths of their columns.

    Beyond `width` the widest cells are broken between words, those of text before those of numbers,
    and a row has several lines.
    """
    columns = list(zip(*rows, strict=True))
    widths = [max(map(len, column)) for column in columns]
    least = [
        max(len(word) for cell in column for word in cell.split() or [""]) for column in columns
    ]
    texts = [any(cell[:1].isalpha() for cell in column[1:]) for column in columns]
    while sum(widths) + 2 * (len(widths) - 1) > width:
        slack = [wide - word for wide, word in zip(widths, least, strict=True)]
        if not any(slack):
            break
        widest = max(range(len(widths)), key=lambda i: (slack[i] > 0, texts[i], widths[i]))
        widths[widest] -= 1
    lines = []
    for row in rows:
        cells = [textwrap.wrap(cell, w) or [""] for cell, w in zip(row, widths, strict=True)]
        for parts in itertools.zip_longest(*cells, fillvalue=""):
            line = "  ".join(part.ljust(w) for part, w in zip(parts, widths, strict=True))
            lines.append(line.rstrip())
    return lines
