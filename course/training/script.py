"""A step's train.py as a script.

    python3 -m step3_pretrain.train --preset tiny
    python3 -m torch.distributed.run --nproc-per-node 2 -m step3_pretrain.train --preset base

A train.py defines PRESETS and `train(job)`, and ends with `main(__file__)`. It may have `add_arguments(parser)`, for
flags of its own, and `choose(preset, options)`, where these flags ask for other settings.
"""

import argparse
import os
import shlex
import signal
import sys
import threading
from pathlib import Path
from types import ModuleType

import torch

from course import steps
from course.errors import CourseError, UsageError
from course.machine import compute
from course.machine.files import make_folder
from course.training.arguments import Parser, run_arguments
from course.training.job import Interrupted, Job

PARENT = "COURSE_RUN"  # set by run.py for the processes it starts


def main(file: str, argv: list[str] | None = None) -> None:
    """Run a train.py as a script: its arguments, its `train(job)`, its figures printed; exits with a clear status."""
    recipe = sys.modules["__main__"]
    step = steps.find_step(Path(file).resolve().parent.name)
    if Path(getattr(recipe, "__file__", None) or "").resolve() != Path(file).resolve():
        recipe = steps.load(step, "train")
    if os.environ.get(PARENT):
        threading.Thread(target=die_with_parent, daemon=True).start()
    words = sys.argv[1:] if argv is None else argv
    args, options = parse(recipe, step, words)
    # How to say it again, where `run` does not know the flags.
    own = None
    if vars(options) != vars(usual_options(recipe)):
        own = f"python3 -m {step.package}.train {shlex.join(words)}"
    sys.exit(perform(recipe, step, args, options, own))


def parse(recipe: ModuleType, step: steps.Step, words: list[str]) -> tuple[argparse.Namespace, argparse.Namespace]:
    """(the arguments that all recipes share, the recipe's own from its `add_arguments`)."""
    parser = Parser(
        prog=f"python3 -m {step.package}.train",
        description=recipe.__doc__ or step.title,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    run_arguments(parser)
    usual = usual_options(recipe)
    if vars(usual):
        recipe.add_arguments(parser.add_argument_group("this step's own"))
    args = parser.parse_args(words)
    return args, argparse.Namespace(**{name: getattr(args, name) for name in vars(usual)})


def usual_options(recipe: ModuleType) -> argparse.Namespace:
    """The recipe's own options where nobody gives any."""
    parser = argparse.ArgumentParser(add_help=False)
    if hasattr(recipe, "add_arguments"):
        recipe.add_arguments(parser)
    names = sorted(action.dest for action in parser._actions)
    return argparse.Namespace(**{name: parser.get_default(name) for name in names})


def perform(
    recipe: ModuleType, step: steps.Step, args: argparse.Namespace, options: argparse.Namespace, own: str | None = None
) -> int:
    """Run `recipe.train` under a Job made from `args`; the exit status. Sentences go to stderr, never tracebacks of
    ours. `own` is the command to say it with again, where `run` does not know the flags.
    """
    job = None
    try:
        job = job_for(recipe, step, args, options)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda number, frame: job.interrupt(number))
        train(recipe, job)
        return 0
    except (Interrupted, KeyboardInterrupt) as stop:
        if not os.environ.get(PARENT) and (job is None or job.is_main):
            print(how_to_go_on(job, own), file=sys.stderr)
        return getattr(stop, "exit_code", 130)
    except CourseError as error:
        print(f"\n{error}", file=sys.stderr)
        return error.exit_code
    except torch.OutOfMemoryError as error:
        print(
            f"\nThe GPU's memory is not enough for this ({error}).\nChoose a smaller --preset, or --device cpu.",
            file=sys.stderr,
        )
        return 1


def job_for(recipe: ModuleType, step: steps.Step, args: argparse.Namespace, options: argparse.Namespace) -> Job:
    """The Job that these arguments ask for. Raises UsageError where the recipe has no such preset."""
    if args.preset not in recipe.PRESETS:
        raise UsageError(f"{step.name} has no preset '{args.preset}'. It has: {', '.join(recipe.PRESETS)}.")
    settings, name = recipe.PRESETS[args.preset], args.preset
    if hasattr(recipe, "choose"):  # a recipe's flags may ask for others
        settings, name = recipe.choose(args.preset, options)
    out = args.out or steps.ROOT / "artifacts" / name
    return Job(step, args.preset, settings, args.device, args.seed, out, args.resume, args.code, options)


def train(recipe: ModuleType, job: Job) -> None:
    """Do what is left to do: all of it, or with --resume what an earlier run has not finished. Print the figures."""
    if job.is_main:
        make_folder(job.out)
    if job.resume:
        done, differs = job.finished()
        if done:
            job.note(f"{job.step.name}: finished already, kept ({job.folder()})")
            return
        if differs:
            job.note(f"{job.step.name}: made again, because {'; '.join(differs)}")
        compute.seed_everything(job.seed)
    figures = recipe.train(job)
    if job.saved is None:
        job.save(figures=figures or {})
    compute.finish_distributed()
    if job.saved and not os.environ.get(PARENT):
        print(figure_lines(job.saved["figures"]))
        print(f"{job.saved['seconds']:.0f} s, {job.saved['peak_memory_mb']:.0f} MB, in {job.folder()}")


def how_to_go_on(job: Job | None, own: str | None) -> str:
    """What is said after Ctrl-C."""
    if job is None:
        return "\nInterrupted. Start it again with:  " + (own or "the same command")
    if not job.checkpoint_file.exists():
        return "\nInterrupted. Start it again with:  " + (own or job.command())
    if own and "--resume" not in own:
        own += " --resume"
    return "\nInterrupted. Go on where it was with:  " + (own or job.command(resume=True))


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
