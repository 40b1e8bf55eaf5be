"""Names of attributes in plain words."""

_GROUPS = {
    "ethnic": "ethnicity",
    "haircolor": "hair colour",
    "hairstyle": "hair style",
}
_NAMES = {
    "gender": {},
    "age": {"middle": "middle-aged"},
    "height": {},
    "weight": {},
    "ethnic": {"asian": "Asian", "india": "Indian"},
    "haircolor": {},
    "hairstyle": {"horsetail": "ponytail"},
    "beard": {"on": "yes", "off": "no"},
    "moustache": {"on": "yes", "off": "no"},
    "glasses": {"normal": "ordinary", "sun": "sunglasses", "off": "none"},
    "head": {"neckless": "necklace"},
    "upper": {"tshirt": "T-shirt", "cardiga": "cardigan"},
    "lower": {"leggins": "leggings"},
    "feet": {"sportshoe": "sport shoe", "classicshoe": "classic shoe", "highheels": "high heels"},
    "bag": {
        "normal": "ordinary",
        "rolling": "rolling bag",
        "sportif": "sports bag",
        "market": "market bag",
        "nothing": "none",
    },
}


def words(group: str, name: str = "") -> str:
    """Formats an attribute class in words: ("upper", "tshirt") → "upper: T-shirt".

    AG-ReID's abbreviations are written out; other groups and names are unchanged. Without a name the
    result is the group alone, without a group the name alone.
    """
    name = _NAMES.get(group, {}).get(name, name)
    return ": ".join(part for part in (_GROUPS.get(group, group), name) if part)
