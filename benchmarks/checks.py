"""How long a learner waits for a verdict: each TODO's check on a right answer, and on the known mistake that takes
longest.

    python3 -m benchmarks.checks

A test cell checks one TODO of the file as it lies on disk; that is what is timed, after torch is imported. Wrong
answers take longer than right ones, because the mistake behind them is looked for among the known ones.
"""

import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.rounds import machine
from course import authoring, checking, steps
from course.checking.lessons import lesson


def seconds(step, path: Path, todo: str, repeat: int) -> float:
    """The median of what checking one TODO of a file takes."""
    times = []
    for seed in range(repeat):
        begin = time.perf_counter()
        checking.check_step(step, path, todos=[todo], seed=seed)
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def main() -> None:
    print(f"{machine()}\n")
    print(f"{'TODO':<30}{'right, s':>9}{'wrong, s':>9}  the mistake that takes longest")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model_exercise.py"
        for step in steps.STEPS:
            material, right_all, wrong_all = lesson(step), 0.0, 0.0
            for todo in material.checks:
                path.write_text(authoring.filled(material.source, step), encoding="utf-8")
                right = seconds(step, path, todo, 3)
                wrong = []
                for mistake in material.mistakes[todo]:
                    path.write_text(authoring.filled(mistake.applied(material.source), step), encoding="utf-8")
                    wrong.append((seconds(step, path, todo, 1), mistake.name))
                slowest, name = max(wrong)
                right_all, wrong_all = right_all + right, wrong_all + slowest
                print(f"{step.short + '.' + todo:<30}{right:>9.2f}{slowest:>9.2f}  {name}", flush=True)
            print(f"{step.short:<30}{right_all:>9.2f}{wrong_all:>9.2f}\n", flush=True)


if __name__ == "__main__":
    main()
