"""What a run found: report.json for machines, report.html (one page that needs nothing else) for people."""

import base64
import io
import json
import textwrap
from pathlib import Path

from PIL import Image

from course import steps
from course.display import plots
from course.display.html import STYLE, both, esc, html_table

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


def is_number(value) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def shown(name: str, value) -> str:
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


def table(report: dict) -> str:
    """The table at the end of `run`: seconds, peak memory, a step's figure beside the figure before it."""
    rows = [("step", "seconds", "peak MB", "figure", "before", "after")]
    for name, step in report["steps"].items():
        lines = headlines(step["figures"]) or [("", "", "")]
        for i, (label, after, before) in enumerate(lines):
            head = (name, f"{step['seconds']:.0f}", f"{step['peak_memory_mb']:.0f}") if i == 0 else ("", "", "")
            rows.append((*head, label, before, after))
    rows.append(("all", f"{report['seconds']:.0f}", f"{report['peak_memory_mb']:.0f}", "", "", ""))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
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


def draw_curves(title: str, curves: dict, x: str = "step"):
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
    rows = {
        kind: (
            {"exact_match": value}
            if is_number(value)
            else {name: v for name, v in value.items() if is_number(v) and 0 <= v <= 1}
        )
        for kind, value in by_kind.items()
        if is_number(value) or isinstance(value, dict)
    }
    measures = list(dict.fromkeys(name for row in rows.values() for name in row))
    return measures, {kind: row for kind, row in rows.items() if row}


def draw_kinds(measures, rows):
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
            height = 1.0
            for q in item["questions"][:questions]:
                truth = "" if q["correct"] else f" (truth: {q['truth']})"
                asked = textwrap.wrap(q["question"], 40)
                said = textwrap.wrap(short(q["answer"], 60) + truth, 37)
                words.text(
                    0, height, "\n".join(asked), va="top", fontsize=7, color="#555555", transform=words.transAxes
                )
                height -= 0.095 * len(asked)
                words.text(
                    0,
                    height,
                    "\n".join(said),
                    va="top",
                    fontsize=7,
                    weight="bold",
                    color="#1b6e34" if q["correct"] else "#a3261b",
                    transform=words.transAxes,
                )
                height -= 0.095 * len(said) + 0.04
        return plots.png(figure)


def short(text, letters: int = LONG) -> str:
    text = " ".join(str(text).split())
    return text if len(text) <= letters else text[: letters - 2] + " …"


def picture_data(item: dict) -> str:
    return str(item["image"]).rpartition("base64,")[2]


# The page ---------------------------------------------------------------------------------------------------


def step_section(name: str, step: dict, folder: Path) -> str:
    parts = [f"<h2 id={esc(name)}>{esc(name)}: {esc(steps.find_step(name).title)}</h2>"]
    mine = [todo for todo, whose in step["code"].items() if whose == "mine"]
    parts.append(
        f'<p class="soft">{step["seconds"]:.0f} s, peak memory {step["peak_memory_mb"]:.0f} MB. '
        f"{len(mine)} of {len(step['code'])} TODOs on your own "
        f"code{': ' + esc(', '.join(mine)) if mine else ''}.</p>"
    )
    plain = [
        (key.replace("_", " "), shown(key, value))
        for key, value in step["figures"].items()
        if value is None or not isinstance(value, (dict, list))
    ]
    if plain:
        parts.append(html_table("Figures", ("figure", "value"), plain))
    for key, value in step["figures"].items():
        if isinstance(value, dict):
            measures, rows = by_kind_rows(value)
            if rows:
                title = key.replace("_", " ")
                parts.append(
                    html_table(
                        title.capitalize(),
                        ("kind", *(m.replace("_", " ") for m in measures)),
                        [(kind, *(shown("exact_match", row.get(m)) for m in measures)) for kind, row in rows.items()],
                    )
                )
                spoken = "; ".join(
                    f"{kind}: " + ", ".join(f"{m} {shown('exact_match', row.get(m))}" for m in measures)
                    for kind, row in rows.items()
                )
                parts.append(
                    f"<figure>{both(draw_kinds(measures, rows), f'Bars, {title}. {spoken}')}"
                    f"<figcaption>{esc(title.capitalize())}, in percent.</figcaption></figure>"
                )
    history = read_json(folder / "history.json")
    for title, curves in curve_groups(history.get("curves", {})).items():
        x = history.get("x", {}).get(title, "step")
        spoken = "; ".join(
            f"{label} from {points[0][1]:.3g} at {x} {points[0][0]} to {points[-1][1]:.3g} at {x} {points[-1][0]}"
            for label, points in curves.items()
        )
        parts.append(
            f"<figure>{both(draw_curves(title, curves, x), f'Curve of {title}: {spoken}')}"
            f"<figcaption>{esc(title.replace('_', ' ').capitalize())} by {esc(x)}.</figcaption></figure>"
        )
    samples = read_json(folder / "samples.json")
    if isinstance(samples, list) and samples:
        keys = list(samples[0])
        parts.append(
            html_table("Samples", keys, [[row.get(key, "") for key in keys] for row in samples], text=range(len(keys)))
        )
    if gallery := read_json(folder / "gallery.json"):
        parts.append(gallery_html(gallery))
    return "\n".join(parts)


def gallery_html(items: list[dict]) -> str:
    cards = []
    for item in items:
        lines = ""
        for q in item["questions"]:
            answer = f'<b class="{"good" if q["correct"] else "bad"}">{esc(short(q["answer"]))}</b>'
            truth = "" if q["correct"] else f' <span class="soft">(truth: {esc(q["truth"])})</span>'
            lines += f"<li>{esc(q['question'])}<br>{answer}{truth}</li>"
        cards.append(
            f'<div><img src="data:image/png;base64,{esc(picture_data(item))}" alt="{esc(item["scene"])}">'
            f"<ol>{lines}</ol></div>"
        )
    return (
        '<h3>What it sees</h3><p class="soft">Pictures that it has never seen, questions, its answers; '
        "after a wrong "
        f'one, the truth.</p><div class="gallery">{"".join(cards)}</div>'
    )


def read_json(path: Path):
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def page(report: dict, out: Path) -> str:
    """report.html: a whole page, with every picture inside."""
    hardware = report["hardware"]
    machine = [hardware["cpu"], f"{hardware['cores']} cores"]
    if hardware.get("memory_mb"):
        machine.append(f"{hardware['memory_mb'] / 1024:.0f} GB")
    if hardware.get("gpu"):
        machine.append(hardware["gpu"])
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    rows = []
    for name, step in report["steps"].items():
        for i, (label, after, before) in enumerate(headlines(step["figures"]) or [("", "", "")]):
            rows.append(
                (
                    *((name, f"{step['seconds']:.0f}", f"{step['peak_memory_mb']:.0f}") if i == 0 else ("",) * 3),
                    label,
                    before,
                    after,
                )
            )
    rows.append(("all", f"{report['seconds']:.0f}", f"{report['peak_memory_mb']:.0f}", "", "", ""))
    sections = "\n".join(step_section(name, step, out / name) for name, step in report["steps"].items())
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>From bytes to sight: preset "
        f"{esc(report['preset'])}</title><style>{STYLE}</style></head><body>\n"
        "<h1>From bytes to a model that sees</h1>\n"
        f"<p>Preset {esc(report['preset'])}, seed {esc(report['seed'])}, on {esc(report['device'])}. "
        f"<span class=soft>{esc(', '.join(machine))}. {esc(versions)}.</span></p>\n"
        + html_table(
            "What each step took, and its figure beside the figure before it",
            ("step", "seconds", "peak MB", "figure", "before", "after"),
            rows,
            text=(0, 3),
        )
        + f"\n{sections}\n</body></html>\n"
    )
