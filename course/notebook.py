"""The course inside a notebook: cards instead of lines, and `%course hint step6.projection` for what a terminal calls
`python3 -m course hint step6.projection`.
"""

import contextlib
import html
import io
import shlex

VERBS = ("check", "hint", "explain", "status", "reset", "doctor")  # the others take minutes, or open this very page
GREEN, AMBER, RED, QUIET = "#2e7d32", "#b26a00", "#c5221f", "#8a8a8a"
PRE = "margin:0;white-space:pre-wrap;background:none;text-align:left;font-family:var(--jp-code-font-family,monospace)"


def shell():
    """The IPython shell of this notebook; None in a terminal, a script or a plain Python."""
    try:
        from IPython import get_ipython
    except ImportError:
        return None
    found = get_ipython()
    return found if hasattr(found, "kernel") else None


def begin() -> None:
    """For the first cell of a lesson: make %course known, and say what is in the way here, if anything is."""
    from course import doctor

    here = shell()
    if here is not None:
        here.register_magic_function(_course, "line", "course")
    doctor.quietly()


def show(text: str, card: str) -> None:
    """Show a card in a notebook, and its text everywhere else."""
    if shell() is None:
        print(text, flush=True)
    else:
        from IPython.display import display

        display({"text/plain": text, "text/html": in_cell(card)}, raw=True)


def card(title: str, headline: str, rows, color: str = QUIET, sign: str = "", code=()) -> str:
    """A card: `title` in typewriter face and the headline (or neither), and (label, text) rows; those labelled as in
    `code` keep their spaces.

    What the colour says, the headline says in words; a screen reader announces the card and leaves out the sign.
    """
    cells = []
    for label, text in rows:
        said = html.escape(text.rstrip())
        if label in code:
            said = f'<pre style="{PRE}">{said}</pre>'
        else:
            said = said.replace("\n", "<br>")
        cells.append(
            f'<div style="opacity:.7">{html.escape(label)}</div>'
            f'<div style="min-width:0;overflow-wrap:anywhere">{said}</div>'
        )
    mark = f'<span aria-hidden="true" style="color:{color}">{sign}</span> ' if sign else ""
    head = f"<div>{mark}<code>{html.escape(title)}</code> <b>{html.escape(headline)}</b></div>" if title else ""
    layout = f"display:grid;grid-template-columns:max-content 1fr;gap:.25em 1em;margin-top:{'.5em' if head else 0}"
    grid = f'<div style="{layout}">{"".join(cells)}</div>' if cells else ""
    return (
        f'<div role="status" style="border-left:4px solid {color};padding:.4em .9em;margin:.3em 0">{head}{grid}</div>'
    )


def in_cell(text: str) -> str:
    """A text or a card with its commands as a cell of a notebook takes them."""
    for verb in VERBS:
        text = text.replace(f"python3 -m course {verb}", f"%course {verb}")
    return text


def _course(line: str) -> None:
    """The command line of the course: %course status, %course hint step6.projection, %course explain ...,
    %course reset ..., %course check ..., %course doctor.
    """
    from course import cli

    words = shlex.split(line)
    if words and words[0] in cli.VERBS and words[0] not in VERBS:
        said = f"In a terminal: python3 -m course {line}"
    else:
        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said), contextlib.suppress(SystemExit):
            cli.main(words)
        said = said.getvalue().strip("\n")
    if said:
        show(said, card("", "", [("", said)], code=("",)))
