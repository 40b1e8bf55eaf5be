"""Arguments after a configuration file's name: `configs/seqnet.py:dataset=prw,hkd,tiny`."""

from types import SimpleNamespace

from g2ajax.config import nearest

VARIANTS = ("skyground", "tiny")


def parse(text: str | None, **known: bool | tuple[str, ...]) -> SimpleNamespace:
    """The arguments of an experiment, and its small variant.

    `known`: name → the argument's allowed values, the default first; or False for a flag. Words are
    separated by commas. The result has an attribute for each argument, and `variant`: "skyground",
    "tiny", or "" for the full experiment.

    Raises ValueError for an unknown word or value (naming the nearest), and for one given twice.
    """
    values = {name: value[0] if value else value for name, value in known.items()}
    values["variant"] = ""
    names: set[str] = set()
    for word in filter(None, (text or "").split(",")):
        name, equals, value = word.partition("=")
        name = "variant" if word in VARIANTS else name
        if name in names:
            raise ValueError(f"{text!r} gives {name} twice")
        names.add(name)
        if name == "variant":
            values[name] = word
        elif equals and known.get(name):
            if value not in known[name]:
                raise ValueError(f"no {name} {value!r}; {nearest(value, known[name])}")
            values[name] = value
        elif not equals and known.get(name) is False:
            values[name] = True
        else:
            raise ValueError(_refusal(word, known))
    return SimpleNamespace(**values)


def _refusal(word: str, known: dict[str, bool | tuple[str, ...]]) -> str:
    forms = {
        name: f"{name}={'|'.join(values)}" if values else name for name, values in known.items()
    }
    if not known:
        return f"no variant {word!r}; {nearest(word, VARIANTS)}"
    name = word.partition("=")[0]
    close = nearest(name, [*known, *VARIANTS]).partition("known:")[0]
    accepted = ", ".join([*forms.values(), *VARIANTS])
    return f"no argument {word!r}; {close}known: {accepted}"
