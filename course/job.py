"""One step's training run: its settings, its machine, the code it runs on, what it reads and leaves behind.

    python3 -m step3_pretrain.train --preset tiny
    python3 -m torch.distributed.run --nproc-per-node 2 -m step3_pretrain.train --preset base

A step's train.py defines PRESETS and `train(job)`, and ends with `main(__file__)`; everything that is not the
recipe (arguments, seeds, processes, atomic files, checkpoints, interruption) is here.
"""

import _thread
import argparse
import ast
import hashlib
import inspect
import os
import shlex
import signal
import sys
import threading
import time
from pathlib import Path

import torch
from tqdm import tqdm

from course import artifacts, compute, steps
from course.artifacts import Artifact, ArtifactError
from course.cli import Parser, run_arguments
from course.errors import CourseError, UsageError

CHECKPOINT_SECONDS = 20
PARENT = "COURSE_RUN"  # set by course.run for the processes it starts


class Interrupted(BaseException):
    """Ctrl-C or a termination signal, with a checkpoint written if the step had one to write."""

    def __init__(self, number: int = signal.SIGINT):
        super().__init__(number)
        self.exit_code = 128 + number


def fingerprint_of(source: str | bytes) -> str:
    """A hash of what a Python source does: comments, layout and docstrings do not count."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and body:
            if isinstance(body[0], ast.Expr) and isinstance(getattr(body[0], "value", None), ast.Constant):
                node.body = body[1:]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()


class Job:
    """What `train(job)` is handed.

    step, preset, settings (PRESETS[preset]), device, seed, out (the folder of all steps), resume, code
    ("chain": the learner's modules, completed by the solution; "solution"), options (the step's own flags).
    """

    def __init__(
        self,
        step,
        preset="tiny",
        settings=None,
        device="auto",
        seed=0,
        out=None,
        resume=False,
        code="chain",
        options=None,
    ):
        self.step = steps.find_step(step)
        self.preset, self.settings, self.seed = preset, dict(settings or {}), seed
        self.out = Path(out).absolute() if out is not None else steps.ROOT / "artifacts" / preset
        self.resume, self.code = resume, code
        self.options = options or argparse.Namespace()
        self.processes, self.device = compute.setup_distributed(compute.pick_device(device))
        self.is_main, self.world_size = self.processes.is_main, self.processes.world_size
        self.saved: dict | None = None
        self._modules, self._inputs = {}, {}  # what this run has used: step name -> module, -> artifact
        self._started = float(os.environ.get("COURSE_STARTED", time.time()))
        self._peaks = (0.0, 0.0)  # of earlier, interrupted parts of this run
        self._checkpointed = time.monotonic()
        self._writing = 0.0  # seconds that the last checkpoint took to write
        self._asked = 0.0  # when the recipe last asked whether a checkpoint is due
        self._signal = 0
        compute.seed_everything(seed)
        compute.flush_denormals()
        if self.device.type == "cuda" and not getattr(self.options, "compile", False):
            compute.leave_out_cudnn_attention()

    # What it runs on

    def use(self, step=None):
        """The module of a step (this one by default) that this run trains with, as `code` says; see
        course.chain.
        """
        step = steps.find_step(step if step is not None else self.step)
        if step.name not in self._modules:
            from course import chain

            self._modules[step.name] = chain.use(step, code=self.code)
        return self._modules[step.name]

    def folder(self, step=None) -> Path:
        """Where a step's artifact lies (this step's by default)."""
        return self.out / steps.find_step(step if step is not None else self.step).name

    def command(self, step=None, *extra: str) -> str:
        """The command that makes a step's artifact as this run would."""
        step = steps.find_step(step if step is not None else self.step)
        words = ["python3 -m course run", f"--steps {step.short}", f"--preset {self.preset}"]
        if self.out != steps.ROOT / "artifacts" / self.preset:
            words.append(f"--out {self.out}")
        if self.seed:
            words.append(f"--seed {self.seed}")
        if self.code != "chain":
            words.append(f"--code {self.code}")
        return " ".join([*words, *extra])

    def load(self, step) -> Artifact:
        """An earlier step's artifact, verified. Otherwise an error with the command that makes it."""
        step = steps.find_step(step)
        if step.name not in self._inputs:
            self._inputs[step.name] = artifacts.load_artifact(self.folder(step), self.command(step))
        return self._inputs[step.name]

    def autocast(self):
        """bfloat16 on CUDA, float32 elsewhere, as a context."""
        return compute.autocast(self.device)

    # What it shows

    def bar(self, work, label: str = "", initial: int = 0, unit: str = "it") -> tqdm:
        """A progress bar over an iterable, or up to a total by `update`; only the main process shows it."""
        total, work = (work, None) if isinstance(work, int) else (None, work)
        tty = sys.stderr.isatty()
        return tqdm(
            work,
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
            "sources": {name: fingerprint_of(source_of(module)) for name, module in sorted(self._modules.items())},
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
            if fingerprint_of(source_of(self.use(name))) != old:
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
        return self.out / f"{self.step.name}.checkpoint.safetensors"

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

    def restore(self):
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
        now = (compute.peak_memory_mb(), compute.peak_gpu_memory_mb(self.device) or 0.0)
        return tuple(max(pair) for pair in zip(now, self._peaks))

    def save(self, *, tensors=None, config=None, figures: dict, history=None, files=None) -> None:
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


def source_of(module) -> str | bytes:
    return getattr(module, "__source__", None) or inspect.getsource(module)


def main(file, argv: list[str] | None = None) -> None:
    """Run a train.py as a script: its arguments, its `train(job)`, its figures printed; exits with a clear
    status.
    """
    train = sys.modules["__main__"]
    step = steps.find_step(Path(file).resolve().parent.name)
    if Path(getattr(train, "__file__", None) or "").resolve() != Path(file).resolve():
        train = steps.load(step, "train")
    parser = Parser(
        prog=f"python3 -m {step.name}.train",
        description=(train.__doc__ or step.title),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    args, options = parse(parser, train, argv)
    if os.environ.get(PARENT):
        threading.Thread(target=die_with_parent, daemon=True).start()
    _, usual = parse(argparse.ArgumentParser(), train, [])
    words = sys.argv[1:] if argv is None else argv
    own = f"python3 -m {step.name}.train {shlex.join(words)}" if vars(options) != vars(usual) else None
    sys.exit(perform(train, step, args, options, own))


def parse(parser, train, argv: list[str] | None):
    """(the shared arguments, the step's own from `train.add_arguments`)."""
    run_arguments(parser)
    shared = {action.dest for action in parser._actions}
    if hasattr(train, "add_arguments"):
        train.add_arguments(parser.add_argument_group("this step's own"))
    args = parser.parse_args(argv)
    return args, argparse.Namespace(**{name: value for name, value in sorted(vars(args).items()) if name not in shared})


def perform(train, step, args, options, own: str | None = None) -> int:
    """Run `train.train` under a Job made from `args`; the exit status. Sentences go to stderr, never
    tracebacks of ours. `own` is the command to say it with again, where `run` does not know the flags.
    """
    job, quiet = None, bool(os.environ.get(PARENT))
    try:
        if args.preset not in train.PRESETS:
            raise UsageError(f"{step.name} has no preset '{args.preset}'. It has: {', '.join(train.PRESETS)}.")
        settings, name = (  # `choose(preset, options)`: a recipe's flags may ask for others
            train.choose(args.preset, options)
            if hasattr(train, "choose")
            else (train.PRESETS[args.preset], args.preset)
        )
        job = Job(
            step,
            args.preset,
            settings,
            args.device,
            args.seed,
            args.out or steps.ROOT / "artifacts" / name,
            args.resume,
            args.code,
            options,
        )
        if job.is_main:
            artifacts.make_folder(job.out)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda number, frame: job.interrupt(number))
        if job.resume:
            done, differs = job.finished()
            if done:
                job.note(f"{step.name}: finished already, kept ({job.folder()})")
                return 0
            if differs:
                job.note(f"{step.name}: made again, because {'; '.join(differs)}")
            compute.seed_everything(job.seed)
        figures = train.train(job)
        if job.saved is None:
            job.save(figures=figures or {})
        compute.finish_distributed()
        if job.is_main:
            if not quiet:
                print(figure_lines(job.saved["figures"]))
                print(f"{job.saved['seconds']:.0f} s, {job.saved['peak_memory_mb']:.0f} MB, in {job.folder()}")
        return 0
    except (Interrupted, KeyboardInterrupt) as stop:
        if not quiet and (job is None or job.is_main):
            kept = job is not None and job.checkpoint_file.exists()
            more = ["--resume"] if kept or not own else []
            again = (own if "--resume" in own else " ".join([own, *more])) if own else None
            print(
                "\nInterrupted. "
                + ("Go on where it was with:  " if kept else "Start it again with:  ")
                + (again or (job.command(None, "--resume") if job else "the same command")),
                file=sys.stderr,
            )
        return getattr(stop, "exit_code", 130)
    except (CourseError, steps.UnknownName) as error:
        print(f"\n{error}", file=sys.stderr)
        return getattr(error, "exit_code", 2)
    except torch.OutOfMemoryError as error:
        print(
            f"\nThe GPU's memory is not enough for this ({error}).\nChoose a smaller --preset, or --device cpu.",
            file=sys.stderr,
        )
        return 1


def figure_lines(figures: dict, indent: str = "  ") -> str:
    """Figures for a terminal: one a line, numbers short, nested ones indented."""
    lines = []
    for name, value in figures.items():
        if isinstance(value, dict):
            lines += [f"{indent}{name}", figure_lines(value, indent + "  ")]
        else:
            lines.append(f"{indent}{name:<36} {f'{value:.4g}' if isinstance(value, float) else value}")
    return "\n".join(lines)


def die_with_parent() -> None:
    """End when `run` is killed: it holds the other end of stdin. Else a second run would find this one still
    writing.
    """
    try:
        while os.read(0, 4096):
            pass
    finally:
        os._exit(1)
