"""Contact sheets: people from the ground and from four altitudes, and annotated frames."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from g2ajax.synthetic import frames, shoot, tracklets
from g2ajax.synthetic.cameras import ALTITUDES
from g2ajax.synthetic.frames import FrameWorld
from g2ajax.synthetic.people import Person
from g2ajax.synthetic.tracklets import TrackletWorld
from g2ajax.synthetic.world import World

_CELL = (150, 212)
_GAP = 6
_SIDE = 44


def _different(candidates: Sequence[Person], count: int) -> list[Person]:
    """Selects people with different attributes: each one is farthest from those before."""
    selection = [candidates[0]]
    while len(selection) < min(count, len(candidates)):
        apart = [
            min(
                sum(a != b for a, b in zip(p.attributes, q.attributes, strict=True))
                for q in selection
            )
            for p in candidates
        ]
        selection.append(candidates[int(np.argmax(apart))])
    return selection


def contact_sheet(world: World, people: int = 8) -> Image.Image:
    """Draws a column for each person and a row for each camera; crops keep their aspect ratio."""
    columns = _different(world.people, people)
    rows = (None, *ALTITUDES)
    wide, high = _CELL[0] + _GAP, _CELL[1] + _GAP
    sheet = Image.new("RGB", (_SIDE + len(columns) * wide, len(rows) * high + _GAP), "white")
    pen = ImageDraw.Draw(sheet)
    for j, altitude in enumerate(rows):
        name = "CCTV" if altitude is None else f"{altitude} m"
        pen.text((4, _GAP + j * high + _CELL[1] // 2), name, fill="black")
        for i, person in enumerate(columns):
            number = 1000 + j
            key = (world.seed, person.number, 0, number)
            crop = shoot.draw(
                person,
                key,
                None if altitude is None else float(altitude),
                world.crowd[(i + 5 * j) % len(world.crowd)],
            )
            picture = Image.fromarray(np.ascontiguousarray(crop.image))
            share = min(_CELL[0] / picture.width, _CELL[1] / picture.height)
            size = max(1, round(picture.width * share)), max(1, round(picture.height * share))
            picture = picture.resize(size, Image.Resampling.BICUBIC)
            left = _SIDE + i * wide + (_CELL[0] - size[0]) // 2
            sheet.paste(picture, (left, _GAP + j * high + (_CELL[1] - size[1]) // 2))
    # 64 levels per channel look the same and halve the file.
    return sheet.point([level & 0xFC for level in range(256)] * 3)


def frame_sheet(world: FrameWorld) -> Image.Image:
    """Draws a test frame of each camera with its boxes: green with an identity, red without."""
    selection = [
        [frame for frame in world.frames("test") if frame.camera == camera][1]
        for camera in range(len(frames.CAMERAS))
    ]
    pictures = [frames.render(world, frame) for frame in selection]
    wide = sum(picture.image.shape[1] + _GAP for picture in pictures) - _GAP
    high = max(picture.image.shape[0] for picture in pictures)
    sheet, left = Image.new("RGB", (wide, high), "white"), 0
    for picture in pictures:
        image = Image.fromarray(picture.image)
        pen = ImageDraw.Draw(image)
        for (x0, y0, x1, y1), identity in zip(picture.boxes, picture.identity, strict=True):
            colour = "lime" if identity >= 0 else "red"
            pen.rectangle((float(x0), float(y0), float(x1) - 1, float(y1) - 1), outline=colour)
        sheet.paste(image, (left, (high - image.height) // 2))
        left += image.width + _GAP
    return sheet.point([level & 0xFC for level in range(256)] * 3)


def tracklet_sheet(world: TrackletWorld, people: int = 3, frames: int = 12) -> Image.Image:
    """Draws a row for each query tracklet of some people, its first frames from left to right; a
    place is empty where the tracker has lost the person. Crops keep their aspect ratio."""
    queries = world.tracklets("query")
    walkers = list({one.identity: one.person for one in queries}.values())[-4 * people :]
    numbers = {person.number for person in _different(walkers, people)}
    rows = [one for one in queries if one.identity in numbers]
    wide, high, side = 58, 96, 2 * _SIDE
    sheet = Image.new("RGB", (side + frames * wide, len(rows) * (high + 2)), "white")
    pen = ImageDraw.Draw(sheet)
    for j, one in enumerate(rows):
        crops = tracklets.render(world, one)
        heights = [crop.view.position[2] for crop in crops.values()]
        name = "CCTV" if one.level < 0 else f"{heights[0]:.0f} to {heights[-1]:.0f} m"
        pen.text((4, j * (high + 2) + high // 2), name, fill="black")
        for number, crop in crops.items():
            picture = Image.fromarray(np.ascontiguousarray(crop.image))
            share = min((wide - 2) / picture.width, high / picture.height)
            size = max(1, round(picture.width * share)), max(1, round(picture.height * share))
            picture = picture.resize(size, Image.Resampling.BICUBIC)
            sheet.paste(picture, (side + number * wide, j * (high + 2) + (high - size[1]) // 2))
    # A palette halves the file.
    return sheet.quantize(128)
