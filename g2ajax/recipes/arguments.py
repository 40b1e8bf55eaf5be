"""Arguments after a configuration file's name: `configs/seqnet.py:dataset=prw,hkd,tiny`."""

from types import SimpleNamespace

from g2ajax.config import nearest

VARIANTS = ("skyground", "tiny")


def parse(text: str | None, **arguments: bool | tuple[str, ...]) -> SimpleNamespace:
    """The arguments of an experiment, and its small variant.

    `arguments`: name → the argument's allowed values, the default first; or False for a flag. Words are
    separated by commas. The result has an attribute for each argument, and `variant`: "skyground",
    "tiny", or "" for the full experiment.

    Raises ValueError for an unknown word or value (naming the nearest), and for one given twice.
    """
    values = {name: value[0] if value else value for name, value in arguments.items()}
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
        elif equals and arguments.get(name):
            if value not in arguments[name]:
                raise ValueError(f"no {name} {value!r}; {nearest(value, arguments[name])}")
            values[name] = value
        elif not equals and arguments.get(name) is False:
            values[name] = True
        else:
            raise ValueError(_refusal(word, arguments))
    return SimpleNamespace(**values)


def _refusal(word: str, arguments: dict[str, bool | tuple[str, ...]]) -> str:
    forms = {
        name: f"{name}={'|'.join(values)}" if values else name for name, values in arguments.items()
    }
    if not arguments:
        return f"no variant {word!r}; {nearest(word, VARIANTS)}"
    name = word.partition("=")[0]
    close = nearest(name, [*arguments, *VARIANTS]).partition("known:")[0]
    accepted = ", ".join([*forms.values(), *VARIANTS])
    return f"no argument {word!r}; {close}known: {accepted}"
