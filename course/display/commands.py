"""The command to type: `python3 -m course hint step6.projection` in a terminal, `%course hint ...` in a notebook."""

import shlex
from collections.abc import Iterable

TERMINAL, CELL = "python3 -m course", "%course"


def command(verb: str, *words: str, **flags: object) -> str:
    """The command line as a terminal takes it: command("run", steps="step2", resume=True).

    A flag that is None or False is left out, one that is True stands alone; what a shell would split is quoted.
    """
    parts = [verb, *words]
    for name, value in flags.items():
        if value is True:
            parts.append(f"--{name}")
        elif value is not None and value is not False:
            parts += [f"--{name}", str(value)]
    return f"{TERMINAL} {shlex.join(parts)}"


def in_cell(text: str, verbs: Iterable[str]) -> str:
    """A text with its commands as a cell takes them, for those verbs that work in a cell."""
    for verb in verbs:
        text = text.replace(f"{TERMINAL} {verb}", f"{CELL} {verb}")
    return text
