"""Submission file of the challenge of 2023: one person for each query."""

import csv
import io
from collections.abc import Sequence

from tfds_builders.agreid.names import parse_name


def submission(query_ids: Sequence[str], ranked_ids: Sequence[Sequence[str]]) -> str:
    """Writes CSV text `image_id,person_id`: file stem of each query, and person of its best match.

    `query_ids`: image_ids of the queries of both protocols, one after another; `ranked_ids[i]`:
    image_ids of gallery images, best first, any number. Images of `gallery_add_on` (distractors) are
    skipped, as in the organisers' script.

    Raises ValueError for lists of different lengths and a query with distractors only.
    """
    if len(query_ids) != len(ranked_ids):
        raise ValueError(f"{len(query_ids)} queries, but {len(ranked_ids)} ranked lists")
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["image_id", "person_id"])
    for query, ranked in zip(query_ids, ranked_ids, strict=True):
        answer = next((name for name in ranked if not name.startswith("gallery_add_on/")), None)
        fields = parse_name(answer.rpartition("/")[2]) if answer else None
        if fields is None:
            raise ValueError(f"{query}: no person of the gallery among its {len(ranked)} matches")
        table.writerow([query.rpartition("/")[2].removesuffix(".jpg"), fields["identity_raw"]])
    return text.getvalue()
