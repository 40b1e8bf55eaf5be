"""Names of attributes in plain words."""

from g2ajax.report.names import words
from g2ajax.synthetic.attributes import COLUMNS, GROUPS


def test_words_for_every_column_of_agreid():
    names = [words(group, name) for group, classes in GROUPS.items() for name in classes]
    assert len(set(names)) == len(COLUMNS) == 88
    raw = (
        "haircolor hairstyle tshirt cardiga leggins sportshoe highheels sportif neckless horsetail"
    )
    assert not [name for name in names for part in raw.split() if part in name.split()]
    assert words("bag", "backpack") == "bag: backpack"
    assert words("upper", "tshirt") == "upper: T-shirt"
    assert words("feet", "sportshoe") == "feet: sport shoe"
    assert words("upper", "cardiga") == "upper: cardigan"
    assert words("beard", "on") == "beard: yes"


def test_other_names_stay_as_they_are():
    assert words("sleeve", "long_1") == "sleeve: long_1"
    assert words("haircolor") == "hair colour"
    assert words("", "tshirt") == "tshirt"
