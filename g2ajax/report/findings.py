"""The page of a search: each query large beside the images found for it, which link to their originals."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8

from g2ajax.report.page import sections_page


@dataclasses.dataclass(frozen=True, eq=False)
class Picked:
    """An image of the page."""

    image: UInt8[np.ndarray, "H W 3"]
    title: str
    link: str
    """Address of the original."""
    distance: float | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Finding:
    """A query with the images found for it, the most similar first."""

    title: str
    query: Picked | None
    """The image that was asked for; None for a sentence."""
    found: Sequence[Picked]


def findings_page(title: str, findings: Sequence[Finding], *, intro: str, ranked_by: str) -> str:
    """The page (HTML), complete but for the originals that it links to."""
    sections = [
        {"id": f"query-{i}", "heading": finding.title, "finding": finding}
        for i, finding in enumerate(findings, start=1)
    ]
    return sections_page(title, intro, sections, ranked_by=ranked_by)
