"""Several processes train one model, as on several GPUs: here two on the CPU, with the communication of torchrun."""

import shutil
import subprocess
import sys
from argparse import Namespace

import pytest
import torch

from course import steps
from course.training.job import Job

LAUNCH = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]


@pytest.mark.slow
def test_two_processes_train_each_step(tmp_path):
    out = tmp_path / "two"
    run = [sys.executable, "-m", "course", "run", "--preset", "smoke", "--device", "cpu", "--code", "solution"]
    subprocess.run([*run, "--steps", "step1-step2", "--out", out], check=True, capture_output=True, cwd=steps.ROOT)
    shutil.copytree(out, tmp_path / "one")
    for step in ("step3_pretrain", "step4_sft", "step5_rlhf", "step6_vlm"):
        done = subprocess.run(
            [*LAUNCH, f"{step}.train", "--preset", "smoke", "--device", "cpu", "--out", out, "--code", "solution"],
            capture_output=True,
            text=True,
            cwd=steps.ROOT,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        assert Job(step, "smoke", {}, "cpu", out=out).load(step).manifest["processes"] == 2

    # In step 3 all batches have as many tokens: two processes are one that adds up the gradients of two batches.
    train = steps.load("step3_pretrain", "train")
    settings = {**train.PRESETS["smoke"], "accumulation": 2}
    options = Namespace(text="stories", compile=False)
    job = Job("step3_pretrain", "smoke", settings, "cpu", out=tmp_path / "one", code="solution", options=options)
    train.train(job)
    load = lambda folder, step: torch.cat(
        [
            value.flatten()
            for _, value in sorted(  # noqa: E731
                Job(step, "smoke", {}, "cpu", out=tmp_path / folder).load(step).tensors.items()
            )
        ]
    )
    start, one, two = load("one", "step2_gpt"), load("one", "step3_pretrain"), load("two", "step3_pretrain")
    assert (one - start).norm() > 20 * (one - two).norm()

    # Words alone came to one of both processes at a time, and the projection got its gradient from the other.
    assert steps.load("step6_vlm", "train").PRESETS["smoke"]["text_every"] % 2
