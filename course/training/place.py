"""Which run is meant: its preset, seed, code and folder. So where its artifacts lie, and the command that makes them.

No torch: `run` and `report` ask for paths without anything else that a Job has.
"""

from dataclasses import dataclass
from pathlib import Path

from course import steps
from course.display.commands import command


@dataclass(frozen=True)
class Place:
    """A run of the course. `out` is the folder of all its steps (None: artifacts/PRESET beside the course)."""

    preset: str = "tiny"
    seed: int = 0
    code: str = "chain"  # "chain": the learner's modules, completed by the solution; "solution": it alone
    out: Path | str | None = None

    @property
    def usual_root(self) -> Path:
        return steps.ROOT / "artifacts" / self.preset

    @property
    def root(self) -> Path:
        """The folder of all steps, absolute."""
        return Path(self.out).absolute() if self.out is not None else self.usual_root

    def folder(self, step: steps.StepName) -> Path:
        """Where a step's artifact lies."""
        return self.root / steps.find_step(step).slug

    def checkpoint(self, step: steps.StepName) -> Path:
        """Where an interrupted step's checkpoint lies."""
        return self.root / f"{steps.find_step(step).slug}.checkpoint.safetensors"

    def command(self, step: steps.StepName | None = None, resume: bool = False) -> str:
        """The command that makes a step's artifact as this run would; without a step, all of them."""
        return command(
            "run",
            steps=steps.find_step(step).short if step is not None else None,
            preset=self.preset,
            out=self.root if self.root != self.usual_root else None,
            seed=self.seed or None,
            code=self.code if self.code != "chain" else None,
            resume=resume,
        )
