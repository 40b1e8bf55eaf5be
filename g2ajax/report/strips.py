"""Tracklets as strips of several images, and the page of a search among them."""

import base64
import dataclasses
import io
from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from g2ajax.report.page import escaped, shell

HEIGHT = 256
"""Pixels of a strip's height, twice its height on the screen."""
GAP = 4
"""Pixels of white between the images of a strip."""

_STYLE = """
.strips { display: flex; flex-wrap: wrap; gap: 1.1rem; align-items: flex-start; }
.strip { margin: 0; font-size: .85rem; width: min-content; max-width: 100%; }
.strip img { height: auto; max-width: calc(100vw - 3rem); border-radius: 4px; background: #ffffff;
  display: block; }
.strip a:focus-visible img, .strip a:hover img { outline: 3px solid var(--link); }
.asked { padding-bottom: .8rem; margin-bottom: 1rem; border-bottom: 1px solid var(--line); }
"""


@dataclasses.dataclass(frozen=True, eq=False)
class Shown:
    """A tracklet of the page."""

    images: Sequence[UInt8[np.ndarray, "_ _ 3"]]
    """Some of its images, in order of time."""
    title: str
    link: str
    """Address of its folder or video."""
    distance: float | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Answer:
    """A tracklet with those found for it, the most similar first."""

    query: Shown
    found: Sequence[Shown]


def strip(images: Sequence[UInt8[np.ndarray, "_ _ 3"]], height: int = HEIGHT) -> np.ndarray:
    """The images side by side at one height, in order, with white between them.

    Raises ValueError without images.
    """
    if not len(images):
        raise ValueError("a strip of no images; give one or more")
    parts = []
    for image in images:
        rows, columns = image.shape[:2]
        size = max(1, round(columns * height / rows)), height
        parts += [
            np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC)),
            np.full((height, GAP, 3), 255, np.uint8),
        ]
    return np.concatenate(parts[:-1], axis=1)


def tracklets_page(title: str, answers: Sequence[Answer], *, intro: str, ranked_by: str) -> str:
    """The page (HTML) of a search, complete but for the originals that it links to."""
    entries = [(f"query-{i}", answer.query.title) for i, answer in enumerate(answers, start=1)]
    parts = [
        _section(name, answer, ranked_by)
        for (name, _), answer in zip(entries, answers, strict=True)
    ]
    return shell(title, intro, entries if len(entries) > 1 else [], parts, style=_STYLE)


def _section(name: str, answer: Answer, ranked_by: str) -> str:
    found = "\n".join(
        _card(item, f"{rank}. {item.distance:.4g}<br>{escaped(item.title)}")
        for rank, item in enumerate(answer.found, start=1)
    )
    return f"""<section id="{name}">
<h2>{escaped(answer.query.title)}</h2>
<div class="asked">{_card(answer.query, "query")}</div>
<p class="label">Distances by {escaped(ranked_by)}; smaller is more similar. A strip opens its original.</p>
<div class="strips">
{found}
</div>
</section>"""


def _card(item: Shown, caption: str) -> str:
    picture = Image.fromarray(strip(item.images))
    data = io.BytesIO()
    picture.save(data, "JPEG", quality=85)
    encoded = base64.b64encode(data.getvalue()).decode("ascii")
    return (
        f'<figure class="strip"><a href="{escaped(item.link)}"><img width="{picture.width // 2}" '
        f'src="data:image/jpeg;base64,{encoded}" alt="{escaped(item.title)}: {len(item.images)} images" '
        f'loading="lazy"></a><figcaption>{caption}</figcaption></figure>'
    )
