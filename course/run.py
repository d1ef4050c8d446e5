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

from course import artifacts, compute, report, steps
from course.artifacts import ArtifactError
from course.errors import CourseError
from course.job import PARENT, Job, parse


def run(args) -> int:
    """Run `args.steps` in order; the exit status. See cli.py for the arguments."""
    device = compute.pick_device(args.device)
    out = Job(args.steps[0], args.preset, out=args.out, device="cpu").out
    artifacts.make_folder(out)
    for step in args.steps:
        if not step.file("train").exists():
            raise CourseError(f"{step.name} has no train.py in {step.folder}.")
    for step in args.steps:
        job = job_for(step, args)
        if args.resume:
            artifact, _ = job.finished()
            if artifact:
                say(f"{step.name}: finished already, kept")
                continue
        say(f"{step.name}: {step.title}")
        status = train(step, args, job)
        if status:
            return status
    written = collect(args, device)
    artifacts.write_file(out / "report.json", artifacts.to_json(written))
    artifacts.write_file(out / "report.html", report.page(written, out))
    for name in written["steps"]:
        if gallery := report.read_json(out / name / "gallery.json"):
            artifacts.write_file(out / "gallery.png", report.gallery_png(gallery[:8]))
    print(f"\n{report.table(written)}\n\nThe report, with curves and pictures: {out / 'report.html'}")
    return 0


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def job_for(step, args) -> Job:
    """The Job that the step's process will make, so that the two agree on what is finished."""
    recipe = steps.load(step, "train")
    _, options = parse(argparse.ArgumentParser(), recipe, [])
    return Job(
        step,
        args.preset,
        recipe.PRESETS.get(args.preset),
        args.device,
        args.seed,
        args.out,
        args.resume,
        args.code,
        options,
    )


def train(step, args, job: Job) -> int:
    """Run one step's train.py in a process of its own and pass signals on; its exit status, explained if not
    0.
    """
    command = [
        sys.executable,
        "-m",
        f"{step.name}.train",
        "--preset",
        args.preset,
        "--device",
        args.device,
        "--seed",
        str(args.seed),
        "--out",
        str(job.out),
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


def resume_command(args) -> str:
    words = ["python3 -m course run --resume"]
    if len(args.steps) < len(steps.STEPS):
        words.append("--steps " + ",".join(step.short for step in args.steps))
    for name, default in (("preset", "tiny"), ("device", "auto"), ("seed", 0), ("out", None), ("code", "chain")):
        if getattr(args, name) != default:
            words.append(f"--{name} {getattr(args, name)}")
    return " ".join(words)


def collect(args, device) -> dict:
    """report.json: what lies in the run's folder, from this run and from earlier ones with its preset and
    seed.
    """
    found = {}
    for step in steps.STEPS:
        folder = Job(step, args.preset, out=args.out, device="cpu", seed=args.seed).folder()
        try:
            manifest = artifacts.load_artifact(folder, "").manifest
        except ArtifactError:
            continue
        if manifest["preset"] == args.preset and manifest["seed"] == args.seed:
            keys = ("seconds", "peak_memory_mb", "peak_gpu_memory_mb", "code", "figures")
            found[step.name] = {key: manifest[key] for key in keys if key in manifest}
    return {
        "preset": args.preset,
        "seed": args.seed,
        "device": str(device),
        "hardware": compute.hardware(device),
        "versions": compute.versions(),
        "seconds": round(sum(step["seconds"] for step in found.values()), 2),
        "peak_memory_mb": max((step["peak_memory_mb"] for step in found.values()), default=0),
        "steps": found,
    }
