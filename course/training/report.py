"""What a run found: report.json for machines, report.html (one page that needs nothing else) for people."""

import base64
import io
import json
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeGuard

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from course import steps
from course.display import plots
from course.display.html import both, render

# The figure that stands for a step, and what it is put beside; whichever the step has. A function of its
# figures.
HEADLINES = (
    ("bytes_per_token", "bytes per token", "as bytes", lambda f: 1.0),
    ("initial_loss", "loss before training", "ln(vocabulary)", lambda f: f.get("ln_vocab")),
    ("bits_per_byte", "bits per byte, held-out text", "before", lambda f: f.get("bits_per_byte_before")),
    ("win_rate", "answers preferred", "a tie", lambda f: 0.5),
    ("exact_match", "exact match", "before", lambda f: f.get("exact_match_before")),
    ("exact_match", "exact match", "best blind", lambda f: best_blind(f)),
    ("exact_match_held_out_combinations", "exact match, new combinations", "best blind", lambda f: best_blind(f)),
)
RATES = ("exact_match", "win_rate", "blind", "accuracy", "names_evidence")
LONG = 90  # letters of an answer that are shown: an untrained model rambles


def best_blind(figures: dict) -> float | None:
    """The best of the controls that do not see the picture."""
    blind = [value for name, value in figures.items() if name.startswith("blind_") and is_number(value)]
    return max(blind) if blind else None


def is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def shown(name: str, value: object) -> str:
    """A figure for a reader: rates in percent, large counts with separators, the rest in four digits."""
    if value is None:
        return "–"
    if is_number(value) and any(rate in name for rate in RATES) and 0 <= value <= 1:
        return f"{100 * value:.1f}%"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def headlines(figures: dict) -> list[tuple[str, str, str]]:
    """[(what, figure, figure before it with its name)], for the figures that a step has."""
    found = []
    for name, label, before_label, before in HEADLINES:
        if not is_number(figures.get(name)):
            continue
        other = before(figures)
        if other is not None:
            found.append((label, shown(name, figures[name]), f"{shown(name, other)} ({before_label})"))
    return found


def took(step: dict) -> tuple[str, str]:
    """(seconds, MB of memory at the peak) of a step, or of the whole run."""
    return f"{step['seconds']:.0f}", f"{step['peak_memory_mb']:.0f}"


def summary(report: dict) -> list[tuple[str, ...]]:
    """A header, then rows: what each step took, and its figure beside the figure before it."""
    rows = [("step", "seconds", "peak MB", "figure", "before", "after")]
    for name, step in report["steps"].items():
        head = (name, *took(step))
        for label, after, before in headlines(step["figures"]) or [("", "", "")]:
            rows.append((*head, label, before, after))
            head = ("", "", "")
    return [*rows, ("all", *took(report), "", "", "")]


def table(report: dict) -> str:
    """The summary as text, for the end of `run`."""
    rows = summary(report)
    widths = [max(map(len, column)) for column in zip(*rows)]
    left = (0, 3)
    lines = [
        "  ".join(cell.ljust(w) if i in left else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths)))
        for row in rows
    ]
    lines.insert(1, "  ".join("-" * w for w in widths))
    return "\n".join(line.rstrip() for line in lines)


# Pictures ---------------------------------------------------------------------------------------------------


def curve_groups(curves: dict) -> dict[str, dict]:
    """Curves that belong in one plot: "loss, projection only" and "loss, all" under "loss"."""
    groups: dict[str, dict] = {}
    for name, points in curves.items():
        points = [(x, y) for x, y in points if is_number(x) and is_number(y)]
        if points:
            group, _, label = name.partition(", ")
            groups.setdefault(group, {})[label or group] = points
    return groups


def draw_curves(title: str, curves: dict, x: str = "step") -> Callable[[bool], Figure]:
    def draw(dark):
        figure = plots.new_figure()
        axes = figure.add_subplot()
        for i, (name, points) in enumerate(curves.items()):
            xs, ys = [x for x, _ in points], [y for _, y in points]
            color = plots.COLORS[dark][i % len(plots.COLORS[dark])]
            if len(ys) > 60:  # a jittery curve: the raw one faint, its mean on top
                axes.plot(xs, ys, color=color, alpha=0.25, linewidth=0.8, linestyle="-")
                ys = plots.smoothed(ys)
            axes.plot(
                xs,
                ys,
                color=color,
                linestyle=plots.DASHES[i % len(plots.DASHES)],
                label=name.replace("_", " "),
                marker="" if len(ys) > 30 else "o",
                markersize=3,
            )
        axes.set(xlabel=x, ylabel=title.replace("_", " "))
        if len(curves) > 1:
            axes.legend()
        return figure

    return draw


def by_kind_rows(by_kind: dict) -> tuple[list[str], dict[str, dict]]:
    """(measures, kind -> measure -> value) from by_kind, whose values are a number or a dict of numbers."""
    rows: dict[str, dict] = {}
    for kind, value in by_kind.items():
        if isinstance(value, dict):
            rows[kind] = {name: rate for name, rate in value.items() if is_number(rate) and 0 <= rate <= 1}
        elif is_number(value):
            rows[kind] = {"exact_match": value}
    measures = list(dict.fromkeys(name for row in rows.values() for name in row))
    return measures, {kind: row for kind, row in rows.items() if row}


def draw_kinds(measures: list[str], rows: dict[str, dict]) -> Callable[[bool], Figure]:
    def draw(dark):
        figure = plots.new_figure(figsize=(6.4, 0.7 + len(rows) * (0.16 + 0.13 * len(measures))))
        axes = figure.add_subplot()
        height = 0.8 / len(measures)
        for i, name in enumerate(measures):
            axes.barh(
                [k + (i - (len(measures) - 1) / 2) * height for k in range(len(rows))],
                [100 * row.get(name, 0) for row in rows.values()],
                height * 0.9,
                label=name.replace("_", " "),
                color=plots.COLORS[dark][i % 6],
            )
        axes.set(xlim=(0, 100), xlabel="percent", yticks=range(len(rows)), yticklabels=list(rows))
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        if len(measures) > 1:
            figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=min(4, len(measures)))
        return figure

    return draw


def gallery_png(items: list[dict], columns: int = 4, questions: int = 3) -> bytes:
    """The pictures with their questions, answers and truth, as one picture (for a README)."""
    rows = -(-len(items) // columns)
    with plots.style():
        figure = plots.new_figure(figsize=(2.6 * columns, 4.4 * rows), facecolor="white")
        grid = figure.subplots(2 * rows, columns, squeeze=False, height_ratios=[2.6, 1.8] * rows)
        for axes in grid.flat:
            axes.axis("off")
        for i, item in enumerate(items):
            picture, words = grid[i // columns * 2][i % columns], grid[i // columns * 2 + 1][i % columns]
            picture.imshow(Image.open(io.BytesIO(base64.b64decode(picture_data(item)))), interpolation="nearest")
            draw_answers(words, item["questions"][:questions])
        return plots.png(figure)


def draw_answers(axes: Axes, questions: list[dict]) -> None:
    """Questions and answers one under the other, from the top."""
    height = 1.0
    for q in questions:
        truth = "" if q["correct"] else f" (truth: {q['truth']})"
        asked = textwrap.wrap(q["question"], 40)
        said = textwrap.wrap(short(q["answer"], 60) + truth, 37)
        axes.text(0, height, "\n".join(asked), va="top", fontsize=7, color="#555555", transform=axes.transAxes)
        height -= 0.095 * len(asked)
        color = "#1b6e34" if q["correct"] else "#a3261b"
        axes.text(
            0, height, "\n".join(said), va="top", fontsize=7, weight="bold", color=color, transform=axes.transAxes
        )
        height -= 0.095 * len(said) + 0.04


def short(text: object, letters: int = LONG) -> str:
    text = " ".join(str(text).split())
    return text if len(text) <= letters else text[: letters - 2] + " …"


def picture_data(item: dict) -> str:
    return str(item["image"]).rpartition("base64,")[2]


# The page ---------------------------------------------------------------------------------------------------


def page(report: dict, out: Path) -> str:
    """report.html: a whole page, with every picture inside."""
    hardware = report["hardware"]
    machine = [hardware["cpu"], f"{hardware['cores']} cores"]
    if hardware.get("memory_mb"):
        machine.append(f"{hardware['memory_mb'] / 1024:.0f} GB")
    if hardware.get("gpu"):
        machine.append(hardware["gpu"])
    return render(
        "training/templates/report.html",
        title=f"From bytes to sight: preset {report['preset']}",
        preset=report["preset"],
        seed=report["seed"],
        device=report["device"],
        machine=", ".join(machine),
        versions=", ".join(f"{name} {version}" for name, version in report["versions"].items()),
        summary=summary(report),
        sections=[section(name, step, out / name) for name, step in report["steps"].items()],
        picture_data=picture_data,
        short=short,
    )


def section(name: str, step: dict, folder: Path) -> dict:
    """What the page says about a step, whose artifact lies in `folder`."""
    seconds, peak = took(step)
    history, samples = read_json(folder / "history.json"), read_json(folder / "samples.json")
    kinds = [kinds_of(key, value) for key, value in step["figures"].items() if isinstance(value, dict)]
    return {
        "name": name,
        "title": steps.find_step(name).title,
        "seconds": seconds,
        "peak": peak,
        "mine": [todo for todo, whose in step["code"].items() if whose == "mine"],
        "todos": len(step["code"]),
        "figures": [
            (spaced(key), shown(key, value))
            for key, value in step["figures"].items()
            if not isinstance(value, (dict, list))
        ],
        "kinds": [kind for kind in kinds if kind["rows"]],
        "curves": [
            curve(title, curves, history.get("x", {}).get(title, "step"))
            for title, curves in curve_groups(history.get("curves", {})).items()
        ],
        "samples": rows_of(samples) if isinstance(samples, list) else [],
        "gallery": read_json(folder / "gallery.json"),
    }


def kinds_of(name: str, by_kind: dict) -> dict:
    """A figure by kind of question: as a table and as bars. No rows where there is nothing to show."""
    measures, kinds = by_kind_rows(by_kind)
    rows = [(kind, *(shown("exact_match", row.get(m)) for m in measures)) for kind, row in kinds.items()]
    spoken = "; ".join(
        f"{kind}: " + ", ".join(f"{m} {value}" for m, value in zip(measures, values)) for kind, *values in rows
    )
    return {
        "title": spaced(name).capitalize(),
        "header": ["kind", *map(spaced, measures)],
        "rows": rows,
        "plot": both(draw_kinds(measures, kinds), f"Bars, {spaced(name)}. {spoken}") if rows else "",
    }


def curve(title: str, curves: dict, x: str) -> dict:
    """A plot of curves over `x`."""
    spoken = "; ".join(
        f"{label} from {points[0][1]:.3g} at {x} {points[0][0]} to {points[-1][1]:.3g} at {x} {points[-1][0]}"
        for label, points in curves.items()
    )
    return {
        "title": spaced(title).capitalize(),
        "x": x,
        "plot": both(draw_curves(title, curves, x), f"Curve of {title}: {spoken}"),
    }


def rows_of(samples: list[dict]) -> list[list]:
    """A header and rows; the first sample has the header's names."""
    header = list(samples[0]) if samples else []
    return [header, *([sample.get(name, "") for name in header] for sample in samples)] if header else []


def spaced(name: str) -> str:
    return name.replace("_", " ")


def read_json(path: Path) -> Any:
    """What a file holds; nothing where there is no such file."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
