"""Milestones: numbers in the lessons that tell whether a training went as it should, each with where it lay for several
seeds, and the usual causes when it lies elsewhere.
"""

import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from course import steps
from course.authoring import notebooks
from course.display import cards
from course.machine.files import write

MEASURED = Path(__file__).with_name("milestones.json")  # "step3.recited" -> its value for each seed
DIARY = "COURSE_MILESTONES"  # the environment variable with the file that `milestone` writes into, while measuring


def band(values: Sequence[float], better: str) -> tuple[float, float]:
    """(lowest, highest) value that counts as usual: the measured range, widened on either side by its width, at least
    by a twentieth of the value and by 0.01, and without an end on the better side ("lower", "higher" or "near")."""
    low, high = min(values), max(values)
    slack = max(high - low, 0.05 * max(abs(low), abs(high)), 0.01)
    return (-math.inf if better == "lower" else low - slack, math.inf if better == "higher" else high + slack)


def milestone(name: str, value: float, better: str, *causes: str) -> bool:
    """Show whether `value` is where it was for several seeds, and the usual causes if not; return whether it is.

    name: "step3.recited", under which the measured values are kept. better: "lower", "higher" or "near".
    """
    if os.environ.get(DIARY):
        with open(os.environ[DIARY], "a", encoding="utf-8") as file:
            file.write(json.dumps([name, value]) + "\n")
    known = json.loads(MEASURED.read_text(encoding="utf-8")) if MEASURED.exists() else {}
    if name not in known:
        cards.show(f"{name}: {value:.4g} (not measured elsewhere)", cards.card(name, f"{value:.4g}", []))
        return True
    low, high = band(known[name], better)
    fine = low <= value <= high
    bound = {"lower": f"at most {high:.3g}", "higher": f"at least {low:.3g}", "near": f"from {low:.3g} to {high:.3g}"}
    usual = (
        f"{bound[better]} (over {len(known[name])} seeds it was from {min(known[name]):.3g} to {max(known[name]):.3g})"
    )
    headline = f"{value:.4g}, {'as it should be' if fine else 'which is unusual'}"
    rows = [("usual", usual)] + ([] if fine else [("look at", "\n".join(f"{i}. {c}" for i, c in enumerate(causes, 1)))])
    text = "\n".join(
        [f"{name}: {headline}"] + [f"  {label:<9} {said}".replace("\n", "\n" + 12 * " ") for label, said in rows]
    )
    sign, color = ("✓", cards.GREEN) if fine else ("!", cards.AMBER)
    cards.show(text, cards.card(name, headline, rows, color, sign))
    return fine


def measure(step: steps.StepName, seeds: int) -> dict[str, list[float]]:
    """Run a step's lesson, as far as its last milestone, once for each seed, and return {name: [value, ...]}.

    The seed is added to each one that the page sets by torch.manual_seed.
    """
    found: dict[str, list[float]] = {}
    path = steps.find_step(step).folder / "tutorial.ipynb"
    cells = notebooks.code_cells(path.read_text(encoding="utf-8"))
    page = "\n".join(cells[: 1 + max(number for number, cell in enumerate(cells) if "milestone(" in cell)])
    for seed in range(seeds):
        shifted = (
            "import torch\nset_seed = torch.manual_seed\n"
            f"torch.manual_seed = lambda seed: set_seed(seed + {1000 * seed})\n"
        )
        with tempfile.TemporaryDirectory() as folder:
            script, diary = Path(folder) / "page.py", Path(folder) / "diary"
            script.write_text(f"import sys; sys.path.insert(0, '.')\n{shifted}{page}", encoding="utf-8")
            subprocess.run(
                [sys.executable, script],
                cwd=path.parent,
                stdout=subprocess.DEVNULL,
                check=True,
                env={**os.environ, DIARY: str(diary), "MPLBACKEND": "agg"},
            )
            for line in diary.read_text(encoding="utf-8").splitlines():
                name, value = json.loads(line)
                found.setdefault(name, []).append(round(value, 6))
        print(
            f"{path.parent.name}, seed {seed}: { ({name: values[-1] for name, values in found.items()}) }", flush=True
        )
    return found


def keep(step: steps.StepName, seeds: int) -> None:
    """Measure a step's milestones and keep them in MEASURED, in place of those that were there."""
    step = steps.find_step(step)
    found = measure(step, seeds)
    known = json.loads(MEASURED.read_text(encoding="utf-8")) if MEASURED.exists() else {}
    others = {name: values for name, values in known.items() if not name.startswith(f"{step.short}.")}
    write(MEASURED, json.dumps(dict(sorted({**others, **found}.items())), indent=1) + "\n")
