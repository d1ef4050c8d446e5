"""`python3 -m course run`: every step's train.py, one process each, then report.json and report.html.

A process per step gives each its own peak memory, and nothing that one step leaves in memory can help the
next.
"""

import argparse
import os
import signal
import subprocess
import sys
import time

import torch

from course import steps
from course.display.commands import command
from course.errors import CourseError
from course.machine import artifacts, compute
from course.machine.artifacts import ArtifactError
from course.machine.files import make_folder, write
from course.training import report
from course.training.place import Place
from course.training.script import PARENT, job_for, usual_options


def run(args: argparse.Namespace) -> int:
    """Run `args.steps` in order (None: all); the exit status. See arguments.py for the rest."""
    device = compute.pick_device(args.device)
    place = Place(args.preset, args.seed, args.code, args.out)
    chosen = args.steps or list(steps.STEPS)
    make_folder(place.root)
    for step in chosen:
        if not step.file("train").exists():
            raise CourseError(f"{step.name} has no train.py in {step.folder}.")
    for step in chosen:
        if args.resume and is_finished(step, args):
            say(f"{step.name}: finished already, kept")
            continue
        say(f"{step.name}: {step.title}")
        status = train(step, args, place)
        if status:
            return status
    written = collect(place, device)
    out = place.root
    write(out / "report.json", artifacts.to_json(written))
    write(out / "report.html", report.page(written, out))
    for name in written["steps"]:
        if gallery := report.read_json(place.folder(name) / "gallery.json"):
            write(out / "gallery.png", report.gallery_png(gallery[:8]))
    print(f"\n{report.table(written)}\n\nThe report, with curves and pictures: {out / 'report.html'}")
    return 0


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def is_finished(step: steps.Step, args: argparse.Namespace) -> bool:
    """Whether a run like this one has made the step's artifact already: asked of the Job that its process would
    make."""
    recipe = steps.load(step, "train")
    if args.preset not in recipe.PRESETS:
        return False  # the step's own process says what there is
    artifact, _ = job_for(recipe, step, args, usual_options(recipe)).finished()
    return artifact is not None


def train(step: steps.Step, args: argparse.Namespace, place: Place) -> int:
    """Run one step's train.py in a process of its own and pass signals on; its exit status, explained if not
    0.
    """
    command = [
        sys.executable,
        "-m",
        f"{step.package}.train",
        "--preset",
        args.preset,
        "--device",
        args.device,
        "--seed",
        str(args.seed),
        "--out",
        str(place.root),
        "--code",
        args.code,
    ]
    if args.resume:
        command.append("--resume")
    environment = {
        **os.environ,
        PARENT: "1",
        "COURSE_STARTED": str(time.time()),
        "PYTHONPATH": os.pathsep.join(filter(None, [str(steps.ROOT), os.environ.get("PYTHONPATH")])),
    }
    # The process reads its stdin to the end: when this one is killed, it ends too.
    child = subprocess.Popen(command, cwd=steps.ROOT, env=environment, stdin=subprocess.PIPE)
    stopped: list[int] = []

    def pass_on(number, frame):
        stopped.append(number)
        child.send_signal(number)

    before = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        status = child.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    again = resume_command(args)
    if stopped:
        say(f"\nInterrupted. Go on where it was with:  {again}")
        return 128 + stopped[0]
    if status == 0:
        return 0
    if status < 0:
        name = signal.Signals(-status).name
        why = " (a system short of memory does that: close other programs, or choose a smaller --preset)"
        say(f"\n{step.name} was ended by {name}{why if name == 'SIGKILL' else ''}.")
        status = 128 - status
    say(f"\n{step.name} did not finish. When that is mended, go on with:  {again}")
    return status


def resume_command(args: argparse.Namespace) -> str:
    """What to type to go on after an interruption: only the flags that are not as usual."""
    usual = {"preset": "tiny", "device": "auto", "seed": 0, "out": None, "code": "chain"}
    flags = {name: value for name, default in usual.items() if (value := getattr(args, name)) != default}
    return command("run", resume=True, steps=",".join(step.short for step in args.steps or []) or None, **flags)


def collect(place: Place, device: torch.device) -> dict:
    """report.json: what lies in the run's folder, from this run and from earlier ones with its preset and seed."""
    found = {}
    for step in steps.STEPS:
        try:
            manifest = artifacts.load_artifact(place.folder(step), "").manifest
        except ArtifactError:
            continue
        if manifest["preset"] == place.preset and manifest["seed"] == place.seed:
            keys = ("seconds", "peak_memory_mb", "peak_gpu_memory_mb", "code", "figures")
            found[step.name] = {key: manifest[key] for key in keys if key in manifest}
    return {
        "preset": place.preset,
        "seed": place.seed,
        "device": str(device),
        "hardware": compute.hardware(device),
        "versions": compute.versions(),
        "seconds": round(sum(step["seconds"] for step in found.values()), 2),
        "peak_memory_mb": max((step["peak_memory_mb"] for step in found.values()), default=0),
        "steps": found,
    }
