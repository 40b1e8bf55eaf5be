"""A result carries its protocol and its uncertainty; tables never mix protocols."""

import csv
import dataclasses
import hashlib
import io
import json
import pathlib
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from g2ajax.config import nearest
from g2ajax.data.crop_source import Dataset
from g2ajax.data.frame_source import FrameDataset
from g2ajax.evaluation.explanation import Measure, as_rows
from g2ajax.evaluation.terminal import WIDTH, aligned

SCORES = ("mAP", "rank1", "rank5", "rank10", "mINP")
PROTOCOL = (
    *("dataset", "version", "dataset_fingerprint", "protocol", "direction"),
    *("queries", "gallery", "filter", "cmc_rule", "given"),
)
"""Fields of a result that make its protocol."""


@dataclasses.dataclass(frozen=True, eq=False)
class QueryScores:
    """The scores of each valid query of a result, in percent."""

    row: Int[np.ndarray, " Q"]
    """Place of the query among those of the protocol."""
    name: np.ndarray
    identity: Int[np.ndarray, " Q"]
    average_precision: Float[np.ndarray, " Q"]
    rank1: Float[np.ndarray, " Q"]


@dataclasses.dataclass(frozen=True)
class Result:
    """The scores (in percent) of one model on one protocol of one dataset."""

    name: str
    """Name of the experiment."""
    dataset: str
    version: str
    dataset_fingerprint: str
    protocol: str
    direction: str
    """Direction for a reader: "aerial -> ground"."""
    queries: int
    """Number of queries; 0 for a plain detector, which ranks nothing."""
    gallery: int
    valid_queries: int
    """Queries with a match left in the gallery; only these count."""
    filter: str
    """Gallery entries left out of a query's ranking."""
    cmc_rule: str
    feature: str
    metric: str
    seed: int
    checkpoint: str
    """`last`, or `best` with the score that chose it."""
    step: int
    mAP: float | None
    mINP: float | None
    """None if a person can be missed in an image, as there may be no last match."""
    rank1: float | None
    rank5: float | None
    rank10: float | None
    interval_mAP: tuple[float, float] | None
    """95% interval, bootstrap over query identities."""
    interval_rank1: tuple[float, float] | None
    interval_rank5: tuple[float, float] | None
    interval_mINP: tuple[float, float] | None
    ranking: str = "reid"
    """`reid`, the method's own, or another one of `evaluation.rankings`."""
    parameters: str = ""
    """Parameters of the ranking; "" if it has none."""
    given: str = ""
    """Inputs of the ranking besides the images; "" for none."""
    measures: tuple[tuple[str, float], ...] = ()
    """Further measures, (name, percent): quality of a detector; mAP of the queries of each altitude
    level."""
    per_query: QueryScores | None = dataclasses.field(default=None, compare=False, repr=False)
    """Scores of each query; not stored with the result."""

    @property
    def fingerprint(self) -> str:
        """Eight hex digits of the protocol and its data; equal ones may share a column.

        Feature, distance and ranking belong to the method and are not part of it, unless the
        ranking uses more than the images.
        """
        protocol = list(protocol_of(vars(self)).values())
        return hashlib.sha256(json.dumps(protocol).encode()).hexdigest()[:8]

    @property
    def label(self) -> str:
        """The dataset and protocol for a table's head."""
        return " ".join(filter(None, (dataset_label(self.dataset), self.protocol)))

    def scalars(self) -> dict[str, float]:
        """The scores by name."""
        scores = {score: getattr(self, score) for score in SCORES}
        values = {score: value for score, value in scores.items() if value is not None}
        return {**values, **dict(self.measures)}

    @property
    def ranked_by(self) -> str:
        """The ranking with its parameters."""
        return f"{self.ranking} ({self.parameters})" if self.parameters else self.ranking

    def lines(self, before: str = "") -> str:
        """The result after a text, for the progress of a run; parts beyond `WIDTH` columns go to
        further lines."""
        name = " ".join(filter(None, (self.label, _shown(self))))
        parts = []
        if self.mAP is not None:
            parts += [f"mAP {with_interval(self.mAP, self.interval_mAP)}"]
            parts += [f"rank-1 {self.rank1:.2f}"]
        more = () if self.mINP is None else (("mINP", self.mINP),)
        parts += [f"{measure} {value:.2f}" for measure, value in (*more, *self.measures)]
        rows = [f"{before}{name}:"]
        for i, part in enumerate([*parts, f"({self.counts})"]):
            gap = "  " if i else " "
            if len(rows[-1]) + len(gap) + len(part) <= WIDTH:
                rows[-1] += gap + part
            else:
                rows.append("    " + part)
        return "\n".join(rows)

    @property
    def counts(self) -> str:
        """The numbers of queries and of gallery entries, as text."""
        if not self.queries:
            return f"{self.gallery} frames"
        return f"{self.valid_queries} of {self.queries} queries, {self.gallery} gallery"


def protocol_of(result: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a result that make its protocol, from a result's fields by name.

    "agreid" and "agreid/strict" are one dataset; `given` is part of the protocol where it is set.
    """
    parts = {name: result.get(name, "") for name in PROTOCOL}
    parts["dataset"] = parts["dataset"].partition("/")[0]
    return parts if parts["given"] else {k: v for k, v in parts.items() if k != "given"}


def dataset_label(dataset: str) -> str:
    """A dataset's name for a reader; the embedded world is always named as such."""
    name, _, configuration = dataset.partition("/")
    name = "SkyGround (synthetic)" if name == "skyground" else name
    return " ".join(filter(None, (name, configuration)))


HEAD = (
    "experiment",
    "ranking",
    "checkpoint",
    "mAP [95%]",
    "rank-1 [95%]",
    "rank-5",
    "rank-10",
    "mINP",
)


def with_interval(value: float | None, interval: tuple[float, float] | None) -> str:
    """A score with its 95% interval; "-" for none."""
    return "-" if value is None else f"{value:.2f} [{interval[0]:.2f}, {interval[1]:.2f}]"


def _score(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


class ResultTable(NamedTuple):
    """The results of one protocol for a reader."""

    title: str
    """Dataset, protocol and direction."""
    details: str
    """Counts, rules, feature, distance and fingerprints; they may differ among its rows."""
    rows: list[tuple[str, ...]]
    """The head first."""


def cells(result: Result) -> tuple[str, ...]:
    return (
        result.name,
        result.ranked_by,
        f"{result.checkpoint} (step {result.step})",
        with_interval(result.mAP, result.interval_mAP),
        with_interval(result.rank1, result.interval_rank1),
        _score(result.rank5),
        _score(result.rank10),
        _score(result.mINP),
    )


def rows_of(results: Sequence[Result]) -> list[tuple[str, ...]]:
    """A table of results of one protocol: its head, then its rows. Empty columns are left out;
    further measures come last. One checkpoint that is both last and best is one row."""
    results = _without_twins(results)
    names = tuple(dict.fromkeys(name for result in results for name, _ in result.measures))
    rows = [(*HEAD, *names)]
    for result in results:
        values = dict(result.measures)
        rows.append((*cells(result), *(f"{values[n]:.2f}" if n in values else "-" for n in names)))
    columns = [i for i in range(len(rows[0])) if any(row[i] != "-" for row in rows[1:])]
    return [tuple(row[i] for i in columns) for row in rows]


def _without_twins(results: Sequence[Result]) -> list[Result]:
    """The results; those that differ only in the checkpoint's description become one, with all
    descriptions."""
    merged: list[Result] = []
    for result in results:
        for i, one in enumerate(merged):
            if dataclasses.replace(result, checkpoint=one.checkpoint) == one:
                names = f"{one.checkpoint} and {result.checkpoint}"
                merged[i] = dataclasses.replace(one, checkpoint=names)
                break
        else:
            merged.append(result)
    return merged


def by_protocol(results: Sequence[Result]) -> dict[str, list[Result]]:
    """Results grouped by protocol fingerprint, in order of appearance."""
    groups: dict[str, list[Result]] = {}
    for result in results:
        groups.setdefault(result.fingerprint, []).append(result)
    return groups


def data_of(dataset: Dataset | FrameDataset) -> dict[str, str]:
    """The fields of a result that identify its data."""
    return {
        "dataset": dataset.name,
        "version": dataset.version,
        "dataset_fingerprint": dataset.fingerprint,
    }


def title(results: Sequence[Result]) -> str:
    """Dataset, protocol and direction of a table."""
    first = results[0]
    return f"{first.label} ({first.direction})"


def details(results: Sequence[Result]) -> str:
    """The rest of a table's protocol; features, distances and seeds may differ among its rows."""

    def all_of(field: str) -> str:
        return "/".join(dict.fromkeys(str(getattr(result, field)) for result in results))

    first = results[0]
    counts = first.counts
    if first.queries:
        counts = f"{all_of('valid_queries')} of {first.queries} queries, {first.gallery} gallery"
    return (
        f"{counts}; {first.filter}; "
        f"{'' if first.cmc_rule == 'standard' else f'CMC by {first.cmc_rule}; '}"
        f"{f'{first.given}; ' if first.given else ''}{all_of('feature')}, {all_of('metric')}; "
        f"data {first.version}/{first.dataset_fingerprint}, protocol {first.fingerprint}, "
        f"seed {all_of('seed')}"
    )


def tables(results: Sequence[Result]) -> list[ResultTable]:
    """A table for each protocol: two protocols never share a column."""
    return [
        ResultTable(title(group), details(group), rows_of(group))
        for group in by_protocol(results).values()
    ]


def as_table(results: Sequence[Result]) -> str:
    """The tables as aligned text, at most `WIDTH` columns wide where their words allow it."""
    blocks = []
    for table in tables(results):
        rows, title = table.rows, table.title
        if rows[0][0] == HEAD[0] and len({row[0] for row in rows[1:]}) == 1:
            title = f"{rows[1][0]} on {title}"
            rows = [row[1:] for row in rows]
        head = [title, *(f"  {line}" for line in textwrap.wrap(table.details, WIDTH - 2))]
        shared = sum(name in HEAD for name in rows[0])
        if max(map(len, aligned(rows))) <= WIDTH or shared == len(rows[0]):
            body = aligned(rows, WIDTH)
        else:  # measures stand below
            named = sum(name in HEAD[:3] for name in rows[0])
            body = aligned([row[:shared] for row in rows], WIDTH)
            body += ["", *aligned([(*row[:named], *row[shared:]) for row in rows], WIDTH)]
        blocks.append("\n".join([*head, *body]))
    return "\n\n".join(blocks)


def explanations_table(measures: Sequence[Measure], dataset: str) -> str:
    """The measures of the explanations, as an aligned text table."""
    head, rows = as_rows(measures)
    lines = aligned([head, *rows], WIDTH)
    return "\n".join([f"explanations on {dataset_label(dataset)}", *lines])


def as_markdown(results: Sequence[Result]) -> str:
    """The same tables in Markdown."""
    blocks = []
    for text, protocol, (head, *scores) in tables(results):
        rows = [head, ("---",) * len(head), *scores]
        # A bar inside a name would open another column.
        escaped = [[cell.replace("|", "\\|") for cell in row] for row in rows]
        lines = ["| " + " | ".join(row) + " |" for row in escaped]
        blocks.append("\n".join([f"**{text}**", "", protocol, "", *lines]))
    return "\n\n".join(blocks) + "\n"


def as_csv(results: Sequence[Result]) -> str:
    """Every field of every result, one a line; an interval is two columns, `_low` and `_high`."""
    buffer = io.StringIO()
    rows = [as_dict(result) for result in results]
    for row in rows:
        for name in [name for name in row if name.startswith("interval_")]:
            row[f"{name}_low"], row[f"{name}_high"] = row.pop(name) or ("", "")
        row.update(row.pop("measures", ()))
    if rows:
        names = list(dict.fromkeys(name for row in rows for name in row))
        writer = csv.DictWriter(buffer, fieldnames=names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return buffer.getvalue()


def compare(results: Sequence[Result], score: str) -> dict[str, float]:
    """One column: `score` by experiment, ranking and checkpoint.

    Raises ValueError for results of different protocols (naming them), for two results of one
    name, and for an unknown score.
    """
    if score not in SCORES:
        raise ValueError(f"no score {score!r}; {nearest(score, SCORES)}")
    groups = by_protocol(results)
    if len(groups) > 1:
        names = "; ".join(f"{key}: {group[0].label}" for key, group in groups.items())
        raise ValueError(f"results of {len(groups)} protocols cannot share a column ({names})")
    names = [" ".join(filter(None, (r.name, _shown(r), r.checkpoint))) for r in results]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{names.count(name)} results are called {name!r}; name them apart")
    return {name: getattr(r, score) for name, r in zip(names, results, strict=True)}


def _shown(result: Result) -> str:
    return "" if result.ranking == "reid" else f"({result.ranked_by})"


def as_dict(result: Result) -> dict[str, Any]:
    """All fields, the protocol fingerprint included; without `measures` if there are none."""
    row = dataclasses.asdict(dataclasses.replace(result, per_query=None))
    del row["per_query"]
    row["fingerprint"] = result.fingerprint
    if not result.measures:
        del row["measures"]
    return row


def write_results(
    results: Sequence[Result],
    folder: pathlib.Path,
    stem: str = "results",
    explanations: Sequence[Measure] = (),
    notes: Sequence[str] = (),
) -> None:
    """Writes `<stem>.json` (with the measures of the explanations), `<stem>.md` (with notes below the
    tables), `<stem>.csv`."""
    content = {
        "results": [as_dict(result) for result in results],
        "explanations": [dataclasses.asdict(measure) for measure in explanations],
    }
    text = json.dumps(content, indent=2)
    (folder / f"{stem}.json").write_text(text + "\n")
    remarks = "".join(f"\n- {note}" for note in notes)
    (folder / f"{stem}.md").write_text(as_markdown(results) + remarks + "\n" * bool(notes))
    (folder / f"{stem}.csv").write_text(as_csv(results))
