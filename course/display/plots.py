"""One quiet look for every plot, in reports and notebooks, on light paper and dark."""

import base64
import contextlib
import html
import io
from collections.abc import Iterable, Iterator
from typing import Any

import matplotlib
from matplotlib.figure import Figure

INK = {False: "#333333", True: "#d6d6d6"}
COLORS = {  # told apart by colour-blind readers too (after Okabe and Ito)
    False: ("#0072b2", "#d55e00", "#009e73", "#8a5a83", "#8c6d00", "#666666"),
    True: ("#56b4e9", "#e69f00", "#2fbf95", "#cc79a7", "#d9c84a", "#aaaaaa"),
}
DASHES = ("-", (0, (5, 1.5)), (0, (1.5, 1)), (0, (5, 1.5, 1.5, 1.5)), (0, (8, 3)), (0, (3, 3)))  # ... and in grey
HATCHES = ("", "//", "..", "xx")  # the same for bars that stand in groups: bar(..., hatch=plots.HATCHES[number])


@contextlib.contextmanager
def style(dark: bool = False) -> Iterator[None]:
    """The look, for the plots made inside: no frame but two thin axes, a faint grid, a transparent ground."""
    ink = INK[dark]
    with matplotlib.rc_context(
        {
            "axes.prop_cycle": matplotlib.cycler(color=COLORS[dark]) + matplotlib.cycler(linestyle=DASHES),
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.edgecolor": ink,
            "axes.labelcolor": ink,
            "axes.titlecolor": ink,
            "text.color": ink,
            "xtick.color": ink,
            "ytick.color": ink,
            "axes.linewidth": 0.7,
            "axes.grid": True,
            "axes.axisbelow": True,
            "grid.color": ink,
            "grid.alpha": 0.15,
            "grid.linewidth": 0.7,
            "lines.linewidth": 1.6,
            "hatch.color": "#1c1c1c" if dark else "white",
            "axes.titlesize": 10,
            "axes.labelsize": 9,
            "xtick.labelsize": 8.5,
            "ytick.labelsize": 8.5,
            "legend.fontsize": 8.5,
            "legend.frameon": False,
            "figure.facecolor": "none",
            "axes.facecolor": "none",
            "savefig.facecolor": "none",
            "figure.figsize": (6.4, 2.8),
            "figure.dpi": 110,
            "font.size": 9,
        }
    ):
        yield


def png(figure: Figure) -> bytes:
    """A figure as PNG bytes (and closed where it came from)."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150, bbox_inches="tight")
    return buffer.getvalue()


def data_uri(content: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(content).decode()


def show(figure: Figure, alt: str) -> None:
    """Put a figure on a notebook's page, with a text for those who cannot see it."""
    from IPython.display import display
    from matplotlib import pyplot

    image = (
        f'<img alt="{html.escape(alt)}" width="{round(100 * figure.get_figwidth())}" '
        f'style="background:white;max-width:100%" src="{data_uri(png(figure))}">'
    )
    pyplot.close(figure)
    display({"text/plain": alt, "text/html": image}, raw=True)


def new_figure(*args: Any, **kwargs: Any) -> Figure:
    """A figure that no window and no global state knows about, on the Agg canvas."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure = Figure(*args, layout="constrained", **kwargs)
    FigureCanvasAgg(figure)
    return figure


def smoothed(values: Iterable[float], weight: float = 0.9) -> list[float]:
    """An exponential moving average that starts unbiased, for curves that jitter."""
    kept, scale, out = 0.0, 0.0, []
    for value in values:
        kept, scale = weight * kept + (1 - weight) * value, weight * scale + (1 - weight)
        out.append(kept / scale)
    return out
