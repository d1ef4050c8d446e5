"""One step's training run: its settings, its machine, the code it runs on, what it reads and leaves behind.

Everything of a run that is not the recipe is here (seeds, processes, atomic files, checkpoints, interruption) or in
script.py (arguments, exit status).
"""

import _thread
import argparse
import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from tqdm import tqdm

from course import chain, steps
from course.authoring.source import fingerprint_of
from course.machine import artifacts, compute, host
from course.machine.artifacts import Artifact, ArtifactError
from course.training.place import Place

CHECKPOINT_SECONDS = 20


class Interrupted(BaseException):
    """Ctrl-C or a termination signal, with a checkpoint written if the step had one to write."""

    def __init__(self, number: int = signal.SIGINT):
        super().__init__(number)
        self.exit_code = 128 + number


class Job:
    """What `train(job)` is handed.

    step, preset, settings (PRESETS[preset]), device, seed, out (the folder of all steps), resume, code
    ("chain": the learner's modules, completed by the solution; "solution"), options (the step's own flags).
    """

    def __init__(
        self,
        step: steps.StepName,
        preset: str = "tiny",
        settings: dict | None = None,
        device: str = "auto",
        seed: int = 0,
        out: Path | str | None = None,
        resume: bool = False,
        code: str = "chain",
        options: argparse.Namespace | None = None,
    ):
        self.step = steps.find_step(step)
        self.place = Place(preset, seed, code, out)
        self.preset, self.settings, self.seed, self.code = preset, dict(settings or {}), seed, code
        self.out, self.resume = self.place.root, resume
        self.options = options or argparse.Namespace()
        self.processes, self.device = compute.setup_distributed(compute.pick_device(device))
        self.is_main, self.world_size = self.processes.is_main, self.processes.world_size
        self.saved: dict | None = None
        self.stages: dict = {}  # what `fit` keeps of this run's earlier stages, in every checkpoint
        self._resumed: dict | None = None
        self._modules: dict[str, ModuleType] = {}  # what this run has used, by the step's name
        self._inputs: dict[str, Artifact] = {}
        self._started = float(os.environ.get("COURSE_STARTED", time.time()))
        self._peaks = (0.0, 0.0)  # of earlier, interrupted parts of this run
        self._checkpointed = time.monotonic()
        self._writing = 0.0  # seconds that the last checkpoint took to write
        self._asked = 0.0  # when the recipe last asked whether a checkpoint is due
        self._signal, self._signalled = 0, 0.0  # the first signal that came, and when
        compute.seed_everything(seed)
        compute.flush_denormals()
        if self.device.type == "cuda" and not getattr(self.options, "compile", False):
            compute.leave_out_cudnn_attention()

    # What it runs on

    def use(self, step: steps.StepName | None = None) -> ModuleType:
        """The module of a step (this one by default) that this run trains with, as `code` says; see
        course.chain.
        """
        step = steps.find_step(step if step is not None else self.step)
        if step.name not in self._modules:
            self._modules[step.name] = chain.use(step, code=self.code)
        return self._modules[step.name]

    def folder(self, step: steps.StepName | None = None) -> Path:
        """Where a step's artifact lies (this step's by default)."""
        return self.place.folder(step if step is not None else self.step)

    def command(self, step: steps.StepName | None = None, resume: bool = False) -> str:
        """The command that makes a step's artifact (this step's by default) as this run would."""
        return self.place.command(step if step is not None else self.step, resume)

    def load(self, step: steps.StepName) -> Artifact:
        """An earlier step's artifact, verified. Otherwise an error with the command that makes it."""
        step = steps.find_step(step)
        if step.name not in self._inputs:
            self._inputs[step.name] = artifacts.load_artifact(self.folder(step), self.command(step))
        return self._inputs[step.name]

    def autocast(self) -> contextlib.AbstractContextManager:
        """bfloat16 on CUDA, float32 elsewhere, as a context."""
        return compute.autocast(self.device)

    # What it shows

    def bar(self, work: Iterable | int, label: str = "", initial: int = 0, unit: str = "it") -> tqdm:
        """A progress bar over an iterable, or up to a total by `update`; only the main process shows it."""
        total = work if isinstance(work, int) else None
        tty = sys.stderr.isatty()
        return tqdm(
            None if isinstance(work, int) else work,
            total=total,
            initial=initial,
            desc=f"{self.step.short} {label}".strip(),
            unit=unit,
            file=sys.stderr,
            disable=not self.is_main,
            dynamic_ncols=tty,
            mininterval=0.2 if tty else 10,
            maxinterval=10 if tty else 30,
        )

    def note(self, text: str) -> None:
        """Print a line above the bar, once."""
        if self.is_main:
            tqdm.write(text, file=sys.stderr)

    # What it leaves

    def stamp(self) -> dict:
        """What the work so far depends on; a checkpoint or artifact with another stamp is not this run's."""
        return {
            "step": self.step.name,
            "preset": self.preset,
            "settings": artifacts.plain(self.settings),
            "options": artifacts.plain(vars(self.options)),
            "seed": self.seed,
            "code": self.code,
            "sources": {
                name: fingerprint_of(steps.source_of(module)) for name, module in sorted(self._modules.items())
            },
            "inputs": {name: artifact.hash for name, artifact in sorted(self._inputs.items())},
        }

    def differences(self, stamp: dict) -> list[str]:
        """How another run's stamp differs from this run, in words; modules and inputs it used are looked up
        here.
        """
        found = []
        ours = self.stamp()
        for key in ("step", "preset", "seed"):  # not "code": what counts is the sources that it led to
            if stamp.get(key) != ours[key]:
                found.append(f"{key} {stamp.get(key)!r}, now {ours[key]!r}")
        for key in ("settings", "options"):
            theirs = stamp.get(key) or {}
            for name in sorted(set(theirs) | set(ours[key])):
                if theirs.get(name) != ours[key].get(name):
                    found.append(f"{name} {theirs.get(name)!r}, now {ours[key].get(name)!r}")
        for name, old in (stamp.get("sources") or {}).items():
            if fingerprint_of(steps.source_of(self.use(name))) != old:
                found.append(f"other code in {name}")
        for name, old in (stamp.get("inputs") or {}).items():
            try:
                if self.load(name).hash != old:
                    found.append(f"another artifact of {name}")
            except ArtifactError:
                found.append(f"an artifact of {name} that is gone")
        return found

    @property
    def checkpoint_file(self) -> Path:
        return self.place.checkpoint(self.step)

    def due(self, step: int | None = None, every: int | None = None) -> bool:
        """Is a checkpoint due? About every 20 seconds (or every `every` steps), and when interrupted. A large one,
        which takes seconds to write, comes less often: writing shall cost no more than a twentieth of the time.
        """
        self._asked = time.monotonic()
        if self._signal:
            return True
        if every is not None and step is not None:
            return step > 0 and step % every == 0
        return time.monotonic() - self._checkpointed > max(CHECKPOINT_SECONDS, 20 * self._writing)

    def checkpoint(self, state: dict) -> None:
        """Write a nested state of tensors, numbers, strings, lists and dicts, whole or not at all.

        The global random streams are kept with it. If Ctrl-C was pressed, the run ends here, after the write.
        """
        started = time.monotonic()
        if self.is_main:
            progress = {"seconds": time.time() - self._started, "peaks": list(self.peaks())}
            state = {"state": state, "random": compute.random_states()}
            artifacts.save_state(self.checkpoint_file, state, {**self.stamp(), "progress": progress})
        self._checkpointed = time.monotonic()
        self._writing = self._checkpointed - started
        if self._signal:
            raise Interrupted(self._signal)

    def restore(self) -> Any:
        """The state of an interrupted run, or None; the global random streams go on where they were too.

        Only with --resume. A checkpoint that another run made is an error that says how it differs.
        """
        if not self.resume or not self.checkpoint_file.exists():
            return None
        stamp = artifacts.load_stamp(self.checkpoint_file)
        if differs := self.differences(stamp):
            raise ArtifactError(
                f"The checkpoint {self.checkpoint_file} is not from this run: it was made with "
                f"{'; '.join(differs)}. Start this step again without --resume, or ask for what made it."
            )
        kept = artifacts.load_state(self.checkpoint_file)
        if self.world_size == 1:  # several processes have several streams: recipes derive them from the step
            compute.set_random_states(kept["random"])
        self._started -= stamp["progress"]["seconds"]
        self._peaks = tuple(stamp["progress"]["peaks"])
        return kept["state"]

    def resumed(self) -> dict:
        """What `restore` gives for a recipe whose state is a dict: read once, {} where there is nothing to resume."""
        if self._resumed is None:
            self._resumed = self.restore() or {}
        return self._resumed

    def finished(self) -> tuple[Artifact | None, list[str]]:
        """This step's artifact if a run like this one has already made it; else None and how it differs."""
        if not (self.folder() / artifacts.MANIFEST).exists():
            artifacts.recover(self.folder())
        if not (self.folder() / artifacts.MANIFEST).exists():
            return None, []
        try:
            artifact = artifacts.load_artifact(self.folder(), self.command())
        except ArtifactError:
            return None, ["it is damaged"]
        differs = self.differences(artifact.manifest.get("stamp") or {})
        return (None, differs) if differs else (artifact, [])

    def peaks(self) -> tuple[float, float]:
        """Peak RAM and GPU memory of this run so far, in MB (0 without CUDA)."""
        now = (host.peak_memory_mb(), compute.peak_gpu_memory_mb(self.device) or 0.0)
        return max(now[0], self._peaks[0]), max(now[1], self._peaks[1])

    def save(
        self,
        *,
        tensors: Mapping[str, torch.Tensor] | None = None,
        config: object = None,
        figures: dict,
        history: Mapping | None = None,
        files: Mapping[str, str | bytes] | None = None,
    ) -> None:
        """Leave this step's artifact and drop its checkpoint. On every process; the main one writes.

        tensors: a state_dict; config: a dict or dataclass; figures: JSON values; history: curve name ->
        [[step, value], ...] ("loss, one" and "loss, two" share a plot), or {"curves": that, "x": {plot: what
        is counted, if not steps}}; files: name -> str | bytes, such as {"tokenizer.json": ...}.
        """
        if self.is_main:
            peak, gpu = self.peaks()
            module = self._modules.get(self.step.name)
            whose = getattr(module, "__course__", None) or {todo: "solution" for todo in self.step.todos}
            self.saved = {
                "step": self.step.name,
                "config": config,
                "seed": self.seed,
                "preset": self.preset,
                "device": str(self.device),
                "code": dict(whose),
                "figures": figures,
                "seconds": round(time.time() - self._started, 2),
                "peak_memory_mb": round(peak, 1),
                **({"peak_gpu_memory_mb": round(gpu, 1)} if gpu else {}),
                "processes": self.world_size,
                "stamp": self.stamp(),
            }
            artifacts.save_artifact(self.folder(), self.saved, tensors, history, files)
            self.checkpoint_file.unlink(missing_ok=True)
        else:
            self.saved = {}
        compute.barrier()

    # Interruption

    def interrupt(self, number: int) -> None:
        """A signal came. A recipe that asks `due` may write a checkpoint; any other stops at once."""
        if self._signal:
            if time.monotonic() - self._signalled > 1.5:  # a terminal and `run` may both have sent the first one
                raise Interrupted(number)
            return
        self._signal, self._signalled = number, time.monotonic()
        if time.monotonic() - self._asked > 20:
            raise Interrupted(number)
        patience = threading.Timer(15, _thread.interrupt_main)  # the loop may have ended meanwhile
        patience.daemon = True
        patience.start()
