"""File names of AG-ReID and AG-ReID.v2: person, recording session, altitude, camera and frame."""

import re
from typing import Any

# A letter may follow the frame number, as in 32 names of wearable images of the second version.
NAME = re.compile(r"^P(\d{4})T(\d{5})A([012])C(\d)F(\d+)[A-Za-z]?\.jpg$")
EXAMPLE = "P0001T04041A0C0F31.jpg"


def parse_name(name: str) -> dict[str, Any] | None:
    """Parses a file name into fields of a crop record; None for a name of another form.

    The identity is the number formed by the digits of P, T and A: P is unique within a session only,
    and a person at another altitude or time is another identity on purpose.
    """
    match = NAME.match(name)
    if match is None:
        return None
    person, session, altitude, camera, frame = match.groups()
    return {
        "identity": int(person + session + altitude),
        "identity_raw": f"P{person}T{session}A{altitude}",
        "camera_raw": f"C{camera}",
        "altitude_level": int(altitude),
        "session": session,
        "frame": int(frame),
    }
