"""Several processes train one model, as on several GPUs: here two on the CPU, with the communication of torchrun."""

import json
import subprocess
import sys

import pytest
from safetensors.torch import load_file

from course import steps

STEPS = ("step3_pretrain", "step4_sft", "step5_rlhf", "step6_vlm")


@pytest.mark.slow
def test_two_processes_train_each_step(tmp_path):
    """With batches of words alone in step 6, for which the projection has nothing to do: at first an error of DDP."""
    run = [sys.executable, "-m", "course", "run", "--preset", "smoke", "--device", "cpu", "--code", "solution"]
    subprocess.run([*run, "--steps", "step1-step2", "--out", tmp_path], check=True, capture_output=True, cwd=steps.ROOT)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    for step in STEPS:
        done = subprocess.run([*launch, f"{step}.train", "--preset", "smoke", "--device", "cpu", "--out", tmp_path],
                              capture_output=True, text=True, cwd=steps.ROOT)
        assert done.returncode == 0, done.stderr[-3000:]
        artifact = json.loads((tmp_path / step / "artifact.json").read_text())
        assert artifact["processes"] == 2
        assert load_file(tmp_path / step / "model.safetensors")
