"""The page of a search: each query large beside the images found for it, which link to their originals."""

import base64
import dataclasses
import io
from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from g2ajax.report.page import escaped, shell

HEIGHT = 288
"""Pixels of an image's height on the page, twice its height on the screen."""

_STYLE = """
.cards { display: flex; flex-wrap: wrap; gap: .9rem; align-items: flex-start; }
.card { width: min-content; min-width: 8.5rem; margin: 0; font-size: .85rem; }
.card img { height: 9rem; width: auto; max-width: calc(100vw - 3rem); object-fit: contain; }
.card img, .query img { border-radius: 6px; background: #ffffff; display: block; }
.card a:focus-visible img, .card a:hover img { outline: 3px solid var(--link); }
.query { margin: 0; padding-right: 1.2rem; border-right: 1px solid var(--line); min-width: 10rem; }
.query img { height: auto; width: auto; max-height: 14rem; max-width: min(27rem, 100vw - 3rem); }
.row { display: flex; flex-wrap: wrap; gap: 1.2rem; }
.row .cards { flex: 1 1 20rem; }
"""


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
    entries = [(f"query-{i}", finding.title) for i, finding in enumerate(findings, start=1)]
    parts = [
        _section(name, finding, ranked_by)
        for (name, _), finding in zip(entries, findings, strict=True)
    ]
    return shell(title, intro, entries if len(entries) > 1 else [], parts, style=_STYLE)


def _section(name: str, finding: Finding, ranked_by: str) -> str:
    query = ""
    if finding.query:
        query = f'<figure class="query">{_linked(finding.query)}</figure>'
    cards = "\n".join(
        f'<figure class="card">{_linked(item)}<figcaption>{rank}. {item.distance:.4g}<br>'
        f"{escaped(item.title)}</figcaption></figure>"
        for rank, item in enumerate(finding.found, start=1)
    )
    return f"""<section id="{name}">
<h2>{escaped(finding.title)}</h2>
<p class="label">Distances by {escaped(ranked_by)}; smaller is more similar. An image opens its original.</p>
<div class="row">
{query}
<div class="cards">
{cards}
</div>
</div>
</section>"""


def _linked(item: Picked) -> str:
    picture = Image.fromarray(item.image)
    width = max(1, round(picture.width * HEIGHT / picture.height))
    picture = picture.resize((min(width, 3 * HEIGHT), HEIGHT), Image.Resampling.BICUBIC)
    data = io.BytesIO()
    picture.save(data, "JPEG", quality=85)
    encoded = base64.b64encode(data.getvalue()).decode("ascii")
    return (
        f'<a href="{escaped(item.link)}"><img src="data:image/jpeg;base64,{encoded}" '
        f'alt="{escaped(item.title)}" loading="lazy"></a>'
    )
