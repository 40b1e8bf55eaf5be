"""The contents of a report as plain records; nothing in them is computed here."""

import dataclasses
from collections.abc import Mapping, Sequence


@dataclasses.dataclass(frozen=True)
class Table:
    """A table of a page. Raises ValueError for a row that is not as long as the head."""

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str | int | float]]
    """Floats are printed with four significant digits; pass text for another format."""
    details: str = ""
    """Text about the table, folded away below it."""

    def __post_init__(self) -> None:
        for i, row in enumerate(self.rows):
            if len(row) != len(self.head):
                raise ValueError(
                    f"table {self.caption!r}: row {i} has {len(row)} cells, its head {len(self.head)}"
                )


@dataclasses.dataclass(frozen=True)
class Chart:
    """A chart, made by a function of `charts`."""

    name: str
    """File name of the chart without its ending."""
    title: str
    svg: str
    alt: str
    """The chart in words, for readers who cannot see it."""
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Score:
    """The score of one protocol, in percent."""

    direction: str
    counts: str
    """Protocol and the numbers of its queries and gallery."""
    name: str
    """Name of the score: "mAP"."""
    value: float
    interval: tuple[float, float] | None
    others: Sequence[tuple[str, str]] = ()
    """Further scores by name, the published one and that of a random order among them."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """One place of a ranking."""

    picture: int | None
    """Place in `Report.pictures`; None for a sentence."""
    title: str
    rank: int
    distance: float
    correct: bool | None
    """True for the query's person; None: unknown."""
    text: str = ""
    """The sentence at this place."""


@dataclasses.dataclass(frozen=True)
class Listed:
    """A query and the first places of its ranking, with the first true match wherever it is."""

    picture: int | None
    """None for a sentence."""
    title: str
    score: float
    """Average precision in percent."""
    first_match: int
    """Rank of the first true match; 0 if there is none."""
    entries: Sequence[Entry]
    text: str = ""
    """The sentence that was asked."""
    facts: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Values to filter by: view, altitude, camera."""
    attributes: Sequence[str] = ()


@dataclasses.dataclass(frozen=True)
class Ranking:
    """The queries of one protocol."""

    label: str
    queries: Sequence[Listed]
    note: str = ""
    """Which queries these are, if not all."""


@dataclasses.dataclass(frozen=True)
class Reason:
    """A group of attributes whose share of a distance is unusually large."""

    name: str
    ratio: float
    """The share divided by its mean over the gallery."""
    deviation: float
    """Standard deviations between the two."""
    pictures: Sequence[int]
    """Places of the maps on the query and on the image; those of one name have one scale."""
    classes: tuple[str, str] = ("", "")
    """Annotated classes of the two; "" where they are unknown."""


@dataclasses.dataclass(frozen=True)
class Explained:
    """An image of a ranking with the reasons of its distance."""

    entry: Entry
    reasons: Sequence[Reason]
    """The strongest first; none if no attribute stands out."""
    saliency: int
    """Place of the picture with Grad-CAM of the distance."""


@dataclasses.dataclass(frozen=True)
class Explanation:
    """A query and the first images of its ranking, explained."""

    picture: int
    title: str
    images: Sequence[Explained]
    label: str
    """Dataset, protocol and ranking."""


@dataclasses.dataclass(frozen=True)
class Report:
    """A finished run, or an evaluation, for a reader."""

    title: str
    summary: Sequence[str]
    """Lines below the title: trained on what, checkpoint, how the gallery is ranked."""
    scores: Sequence[Score]
    charts: Sequence[Chart]
    rankings: Sequence[Ranking]
    pictures: Sequence[bytes]
    """Small encoded images (WebP)."""
    tables: Sequence[Table] = ()
    learning: Chart | None = None
    """The learning curve, shown beside the score."""
    explanations: Sequence[Explanation] = ()
    trust: str = ""
    """How true the reasons of the explanations are, as measured; "": not measured."""
    remarks: Mapping[int, str] = dataclasses.field(default_factory=dict)
    """Where the attributes of a picture are predicted otherwise than annotated, by its place."""
    settings: Sequence[tuple[str, str]] = ()
    """Names and values of the run's settings."""
    distance: str = "distance"
    """Name of an entry's number."""
