"""`python -m g2ajax <command>`: each command is a module of `g2ajax.cli` with `main(argv) -> int`.

What does not fit, a ValueError or FileNotFoundError, is said in one line and ends with 1.
"""

import importlib
import pkgutil
import sys

from g2ajax import cli
from g2ajax.config import nearest


def commands() -> dict[str, str]:
    """Command names (with hyphens) and the modules that serve them."""
    return {m.name.replace("_", "-"): m.name for m in pkgutil.iter_modules(cli.__path__)}


def main(argv: list[str]) -> int:
    known = commands()
    if not argv or argv[0] in ("-h", "--help"):
        print("usage: python -m g2ajax <command> [--help]\ncommands: " + ", ".join(sorted(known)))
        return 0 if argv else 2
    if argv[0] not in known:
        print(f"no command {argv[0]!r}; {nearest(argv[0], known)}", file=sys.stderr)
        return 2
    command = importlib.import_module(f"g2ajax.cli.{known[argv[0]]}")
    try:
        return command.main(argv[1:])
    except (ValueError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
