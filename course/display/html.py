"""Pages that need no other file: their templates, and plots for light paper and dark."""

from collections.abc import Callable
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from course.display import plots

# Whatever is not Markup is shown as the text that it is, whoever wrote it; a name that nobody gave is an error.
TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parents[1]),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)


def render(template: str, **values: object) -> str:
    """A page from a template, which lies beside the module that fills it: "training/templates/report.html"."""
    return TEMPLATES.get_template(template).render(values)


def both(draw: Callable[[bool], Figure], alt: str) -> Markup:
    """A plot as <picture>, once for light paper and once for dark. draw(dark) -> figure."""
    made = []
    for dark in (False, True):
        with plots.style(dark):
            made.append(plots.data_uri(plots.png(draw(dark))))
    return Markup(
        '<picture><source media="(prefers-color-scheme: dark)" srcset="{}"><img src="{}" alt="{}"></picture>'
    ).format(made[1], made[0], alt)
