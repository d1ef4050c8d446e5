"""A copy of the course whose two steps are toys: one leaves a tensor, the other trains on it for a second."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from course.steps import ROOT

STEPS = """

ROOMS = STEPS = (Step("step1_toy", "A toy", ("one",), 1), Step("step2_toy", "A toy that trains", ("two",), 1))
"""

LEAVES = '''"""A step without a loop."""
import torch

PRESETS = {"smoke": dict(scale=2.0)}


def train(job):
    job.use()
    weights = {"w": torch.full((4,), job.settings["scale"])}
    job.save(tensors=weights, config={"n": 4}, figures={"bytes_per_token": 3.5, "vocab_size": 512},
             files={"deep/er.json": "{}"})


if __name__ == "__main__":
    from course.training.script import main

    main(__file__)
'''

TRAINS = '''"""A step with a loop that draws from every global random stream."""
import os
import random
import time

import numpy as np
import torch

from course.machine import compute

PRESETS = {"smoke": dict(steps=40), "tiny": dict(steps=41)}


def add_arguments(parser):
    parser.add_argument("--flavour", default="plain")


def train(job):
    job.use()
    w = job.load("step1_toy").tensors["w"].clone().requires_grad_()
    optimizer = torch.optim.AdamW([w], lr=0.01)
    state = job.restore() or {"step": 0, "curve": [], "w": w.detach(), "optimizer": optimizer.state_dict()}
    w.data.copy_(state["w"])
    optimizer.load_state_dict(state["optimizer"])
    curve = state["curve"]
    with job.bar(job.settings["steps"], "train", initial=state["step"]) as bar:
        for step in range(state["step"], job.settings["steps"]):
            loss = ((w - torch.randn(4) * random.random() * np.random.rand()) ** 2).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            curve.append([step, loss.item()])
            bar.update()
            if step == int(os.environ.get("TOY_STALL", "-1")):
                open(job.out / "stalled", "w").close()
                until = time.monotonic() + 300
                while not job.due(step) and time.monotonic() < until:
                    time.sleep(0.02)
            if job.due(step, every=5):
                kept = {"step": step + 1, "curve": curve, "w": w, "optimizer": optimizer.state_dict()}
                job.checkpoint(kept)
    total = compute.mean(float(job.processes.rank), job.device)
    job.save(tensors={"w": w}, config={}, history={"loss": curve}, files={"gallery.json": GALLERY}, figures={
        "exact_match_before": 0.1, "exact_match": 0.75, "sum": float(w.sum().detach()), "mean_rank": total,
        "by_kind": {"a": {"sighted": 0.5, "blind_black": 0.25},
                    "<b>": {"sighted": 0.25, "blind_black": 0.125}}})


GALLERY = """[{"image":
  "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==",
  "scene": "a \\\\"red\\\\" <circle>", "questions": [
  {"kind": "color", "question": "what color is <it>?", "truth": "red & bold", "answer": "blue",
   "correct": false},
  {"kind": "count", "question": "how many?", "truth": "1", "answer": "1", "correct": true}]}]"""

if __name__ == "__main__":
    from course.training.script import main

    main(__file__)
'''


def make(folder: Path) -> Path:
    """Lay the copy out in `folder` and return it."""
    shutil.copytree(ROOT / "course", folder / "course", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "requirements.txt", folder)
    with open(folder / "course" / "steps.py", "a", encoding="utf-8") as file:
        file.write(STEPS)
    for name, word, text in (("step1_toy", "one", LEAVES), ("step2_toy", "two", TRAINS)):
        (folder / name).mkdir()
        (folder / name / "model_solution.py").write_text(f"def {word}():\n    return 1\n")
        (folder / name / "train.py").write_text(text)
    return folder


def start(folder: Path, *words, **environment) -> subprocess.Popen:
    """Start `python -m WORDS` in the copy, in a process group of its own."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("COURSE_")}
    return subprocess.Popen(
        [sys.executable, "-m", *map(str, words)],
        cwd=folder,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        start_new_session=os.name != "nt",
        env={**clean, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(folder), **environment},
    )


def call(folder: Path, *words, **environment) -> subprocess.CompletedProcess:
    """Run `python -m WORDS` in the copy to its end."""
    process = start(folder, *words, **environment)
    try:
        out, err = process.communicate(timeout=600)
    except subprocess.TimeoutExpired:
        kill(process)
        raise
    return subprocess.CompletedProcess(words, process.returncode, out, err)


def kill(process: subprocess.Popen) -> None:
    """Kill a process that `start` started, and all that it started."""
    if os.name == "nt":
        process.kill()
    else:
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
