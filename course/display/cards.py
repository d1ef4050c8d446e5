"""A card under a cell of a notebook; the same as text elsewhere."""

import html
from collections.abc import Collection, Iterable
from typing import Any

from course.display.commands import in_cell

GREEN, AMBER, RED, QUIET = "#2e7d32", "#b26a00", "#c5221f", "#8a8a8a"
PRE = "margin:0;white-space:pre-wrap;background:none;text-align:left;font-family:var(--jp-code-font-family,monospace)"


def shell() -> Any:
    """The IPython shell of this notebook; None in a terminal, a script or a plain Python."""
    try:
        from IPython import get_ipython  # there in a notebook, and nowhere else
    except ImportError:
        return None
    found = get_ipython()
    return found if hasattr(found, "kernel") else None


def show(text: str, card: str) -> None:
    """Show a card in a notebook, and its text everywhere else."""
    if shell() is None:
        print(text, flush=True)
    else:
        from IPython.display import display  # there in a notebook, and nowhere else

        display({"text/plain": text, "text/html": as_cell(card)}, raw=True)


def as_cell(card: str) -> str:
    """A card with its commands as cells, where this notebook knows them: see course.notebook.begin."""
    here = shell()
    return in_cell(card, getattr(here and here.find_line_magic("course"), "verbs", ()))


def card(
    title: str,
    headline: str,
    rows: Iterable[tuple[str, str]],
    color: str = QUIET,
    sign: str = "",
    code: Collection[str] = (),
) -> str:
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
