"""Pages that need no other file: their style, tables, and plots for light paper and dark."""

import html

from course.display import plots


def both(draw, alt: str) -> str:
    """A plot as <picture>, once for light paper and once for dark. draw(dark) -> figure."""
    made = []
    for dark in (False, True):
        with plots.style(dark):
            made.append(plots.data_uri(plots.png(draw(dark))))
    return (
        f'<picture><source media="(prefers-color-scheme: dark)" srcset="{made[1]}">'
        f'<img src="{made[0]}" alt="{html.escape(alt, quote=True)}"></picture>'
    )


STYLE = """
:root { color-scheme: light dark; --ink: #222; --soft: #666; --line: #ddd; --paper: #fff;
  --good: #1b6e34; --bad: #a3261b }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e4e4; --soft: #a5a5a5; --line: #3a3a3a; --paper: #161616;
    --good: #7fd19a; --bad: #ff9b8f } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 62rem;
  margin: 2rem auto; padding: 0 1rem }
h1, h2 { line-height: 1.2; margin: 2rem 0 .5rem }
h1 { margin-top: 0 }
table { border-collapse: collapse; font-size: .92rem; margin: .7rem 0 1.2rem }
.wide { overflow-x: auto }
caption { text-align: left; color: var(--soft); padding-bottom: .3rem; white-space: nowrap }
th, td { text-align: right; padding: .2rem .8rem .2rem 0; border-bottom: 1px solid var(--line);
  vertical-align: top; font-variant-numeric: tabular-nums }
th { font-weight: 600 }
th:first-child, td:first-child, .text { text-align: left }
img { max-width: 100%; height: auto }
figure { margin: .8rem 0 1.2rem }
figcaption, .soft { color: var(--soft); font-size: .92rem }
.gallery { display: grid; grid-template-columns: repeat(auto-fill, minmax(14rem, 1fr)); gap: 1.6rem }
.gallery img { width: 100%; border-radius: 4px }
.gallery ol { padding: 0; list-style: none; margin: .5rem 0 }
.gallery li { margin-bottom: .5rem; font-size: .92rem }
.good { color: var(--good) }
.bad { color: var(--bad) }
"""


def esc(value) -> str:
    return html.escape(str(value), quote=True)


def html_table(caption: str, header, rows, text=(0,)) -> str:
    def cell(tag, i, value):
        scope = ' scope="col"' if tag == "th" else ""
        return f"<{tag}{scope}{' class=text' if i in text else ''}>{esc(value)}</{tag}>"

    head = "".join(cell("th", i, value) for i, value in enumerate(header))
    body = "".join("<tr>" + "".join(cell("td", i, value) for i, value in enumerate(row)) + "</tr>" for row in rows)
    return (
        f'<div class="wide"><table><caption>{esc(caption)}</caption><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )
