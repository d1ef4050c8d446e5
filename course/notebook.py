"""The course inside a notebook: `%course hint step6.projection` for what a terminal calls
`python3 -m course hint step6.projection`, and cards instead of lines.
"""

import contextlib
import io
import shlex

from course import cli
from course.display.cards import card, shell, show
from course.display.commands import TERMINAL


def begin() -> None:
    """For the first cell of a lesson: make %course known, and say what is in the way here, if anything is."""
    from course.machine import doctor  # imports torch

    here = shell()
    if here is not None:
        here.register_magic_function(_course, "line", "course")
    doctor.quietly()


def _course(line: str) -> None:
    """The command line of the course: %course status, %course hint step6.projection, %course explain ...,
    %course reset ..., %course check ..., %course doctor.
    """
    words = shlex.split(line)
    if words and words[0] in cli.VERBS and not cli.VERBS[words[0]].in_cell:
        said = f"In a terminal: {TERMINAL} {line}"
    else:
        kept = io.StringIO()
        with contextlib.redirect_stdout(kept), contextlib.redirect_stderr(kept), contextlib.suppress(SystemExit):
            cli.main(words)
        said = kept.getvalue().strip("\n")
    if said:
        show(said, card("", "", [("", said)], code=("",)))


vars(_course)["verbs"] = tuple(verb.name for verb in cli.VERBS.values() if verb.in_cell)  # for display/cards.py
