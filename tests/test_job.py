"""Artifacts, checkpoints, stamps and the machine."""

import errno
import json
import os
import random
import signal
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from course import steps
from course.authoring.source import fingerprint_of
from course.errors import CourseError, UsageError
from course.machine import artifacts, compute, host
from course.machine.artifacts import ArtifactError
from course.machine.files import FileError
from course.training.job import Interrupted, Job
from tests import toy_course


def job(tmp_path, step="step3_pretrain", **options) -> Job:
    return Job(step, **{"preset": "smoke", "settings": {"lr": 1e-3}, "device": "cpu", "out": tmp_path, **options})


def training_state() -> dict:
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.LayerNorm(2))
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.randn(4, 3)).sum().backward()
    optimizer.step()
    return {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "python": random.getstate(),
        "numpy": np.random.get_state(),
        "torch": torch.get_rng_state(),
        3: (1, 2.5, None, b"\x00\xff", "ü"),
        "$odd": {"nan": float("nan")},
        "bf16": torch.randn(2).bfloat16(),
        "empty": {},
        "scalar": np.float32(2),
    }


def same(a, b) -> bool:
    if isinstance(a, (torch.Tensor, np.ndarray)):
        return type(a) is type(b) and a.dtype == b.dtype and a.shape == b.shape and bool((a == b).all())
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return a == b or a != a and b != b


def test_a_training_state_survives_the_disk(tmp_path):
    state = training_state()
    artifacts.save_state(tmp_path / "s.safetensors", state, {"who": "me"})
    assert same(artifacts.load_state(tmp_path / "s.safetensors"), state)
    assert artifacts.load_stamp(tmp_path / "s.safetensors") == {"who": "me"}
    assert b"pickle" not in (tmp_path / "s.safetensors").read_bytes()


def test_what_has_no_place_in_a_state_is_refused():
    with pytest.raises(TypeError, match="not Linear"):
        artifacts.flatten({"model": torch.nn.Linear(1, 1)})


def test_an_artifact_holds_what_was_saved(tmp_path):
    one = job(tmp_path)
    tied = torch.randn(3, 2)
    one.save(
        tensors={"a": tied, "b": tied, "c": tied.T},
        config={"n": 1},
        figures={"x": torch.tensor(2.0), "nan": float("nan")},
        history={"loss": [[0, 1.0]]},
        files={"tokenizer.json": "{}", "deep/er.bin": b"\0"},
    )
    found = job(tmp_path).load("step3")
    assert found.config == {"n": 1} and found.figures == {"x": 2.0, "nan": None}
    assert torch.equal(found.tensors["a"], tied) and torch.equal(found.tensors["c"], tied.T)
    assert found.history == {"loss": [[0, 1.0]]} and found.text("tokenizer.json") == "{}"
    assert found.manifest["code"] == dict.fromkeys(steps.find_step("step3").todos, "solution")
    assert found.manifest["seed"] == 0 and found.manifest["seconds"] >= 0 and found.manifest["peak_memory_mb"] > 50
    assert [path.name for path in tmp_path.iterdir()] == ["step3_pretrain"]


def test_saving_again_replaces_the_whole_artifact(tmp_path):
    job(tmp_path).save(figures={"n": 1}, files={"old.txt": "old"})
    job(tmp_path).save(figures={"n": 2})
    assert job(tmp_path).load("step3").figures == {"n": 2}
    assert not (tmp_path / "step3_pretrain" / "old.txt").exists()


@pytest.mark.parametrize(
    "code, says",
    [(errno.ENOSPC, "no space left"), (errno.EACCES, "may not be written"), (errno.EIO, "could not be written")],
)
def test_a_failed_write_leaves_what_was_there(tmp_path, monkeypatch, code, says):
    job(tmp_path).save(figures={"n": 1})
    one = job(tmp_path)
    one.checkpoint({"n": 1})

    def refuse(*args, **kwargs):
        raise OSError(code, "refused")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(FileError, match=says):
        one.save(figures={"n": 2})
    with pytest.raises(FileError, match=says):
        one.checkpoint({"n": 2})
    monkeypatch.undo()
    assert job(tmp_path).load("step3").figures == {"n": 1}
    assert job(tmp_path, resume=True).restore() == {"n": 1}
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "step3_pretrain",
        "step3_pretrain.checkpoint.safetensors",
    ]


def test_a_place_that_cannot_be_a_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match="could not be written"):
        job(tmp_path / "file").save(figures={})


def test_a_kill_between_the_renames_is_mended(tmp_path):
    job(tmp_path).save(figures={"n": 1})
    (tmp_path / "step3_pretrain").rename(tmp_path / ".step3_pretrain.old")
    assert job(tmp_path).load("step3").figures == {"n": 1}


def test_a_missing_artifact_names_its_command(tmp_path):
    with pytest.raises(
        ArtifactError, match=r"nothing from step2_gpt .*\n?.*python3 -m course run --steps step2 --preset smoke"
    ):
        job(tmp_path, seed=3, code="solution").load("step2")
    text = job(tmp_path, seed=3, code="solution").command("step2")
    assert text.endswith("--seed 3 --code solution") and f"--out {tmp_path}" in text


@pytest.mark.parametrize("damage", ["flip", "cut", "json", "gone", "extra"])
def test_a_damaged_artifact_is_said_to_be_damaged(tmp_path, damage):
    job(tmp_path).save(tensors={"w": torch.ones(100)}, config={"n": 1}, figures={}, files={"t.json": "{}"})
    folder = tmp_path / "step3_pretrain"
    weights = bytearray((folder / "model.safetensors").read_bytes())
    if damage == "flip":
        weights[-3] ^= 1
        (folder / "model.safetensors").write_bytes(weights)
    elif damage == "cut":
        (folder / "model.safetensors").write_bytes(weights[:-10])
    elif damage == "json":
        (folder / "artifact.json").write_text('{"hash"')
    elif damage == "gone":
        (folder / "t.json").unlink()
    else:
        manifest = json.loads((folder / "artifact.json").read_text())
        (folder / "artifact.json").write_text(json.dumps({**manifest, "config": {"n": 2}}))
    with pytest.raises(ArtifactError, match="damaged.*course run --steps step3"):
        job(tmp_path).load("step3")


def test_a_damaged_checkpoint_is_said_to_be_damaged(tmp_path):
    one = job(tmp_path, resume=True)
    for content in (b"", b"not safetensors at all", b"\xff" * 64):
        one.checkpoint_file.write_bytes(content)
        with pytest.raises(ArtifactError, match="damaged.*without --resume"):
            one.restore()


def test_restore_needs_resume_and_the_same_run(tmp_path):
    job(tmp_path).checkpoint({"n": 1})
    assert job(tmp_path).restore() is None
    assert job(tmp_path, resume=True).restore() == {"n": 1}
    for options, says in (({"settings": {"lr": 2}}, "lr 0.001, now 2"), ({"seed": 5}, "seed 0, now 5")):
        with pytest.raises(ArtifactError, match=f"not from this run.*{says}"):
            job(tmp_path, resume=True, **options).restore()


def test_another_input_is_another_run(tmp_path):
    job(tmp_path, "step2").save(tensors={"w": torch.ones(2)}, figures={"seconds": 1})
    one = job(tmp_path)
    one.load("step2")
    one.checkpoint({})
    one.save(figures={})
    assert job(tmp_path).finished()[0]
    job(tmp_path, "step2").save(tensors={"w": torch.ones(2)}, figures={"seconds": 2})  # the same weights
    assert job(tmp_path).finished()[0]
    job(tmp_path, "step2").save(tensors={"w": torch.zeros(2)}, figures={"seconds": 2})
    assert job(tmp_path).finished() == (None, ["another artifact of step2_gpt"])


def test_other_code_is_another_run(tmp_path, monkeypatch):
    class Module:
        __source__ = "x = 1  # a comment\n"

    from course import chain

    monkeypatch.setattr(chain, "use", lambda step, code: Module)
    one = job(tmp_path)
    one.use("step2")
    one.checkpoint({"n": 1})
    Module.__source__ = '"""A docstring."""\nx   =   1\n'
    assert job(tmp_path, resume=True).restore() == {"n": 1}
    Module.__source__ = "x = 2\n"
    with pytest.raises(ArtifactError, match="other code in step2_gpt"):
        job(tmp_path, resume=True).restore()


def test_fingerprints_see_code_and_not_words():
    assert fingerprint_of('def f():\n    "doc"\n    return 1') == fingerprint_of("def f():  # why\n    return 1")
    assert fingerprint_of("def f():\n    return 1") != fingerprint_of("def f():\n    return 2")
    assert fingerprint_of('x = "a"') != fingerprint_of('x = "b"')


def test_a_checkpoint_carries_the_random_streams_and_the_clock(tmp_path):
    one = job(tmp_path)
    one._started -= 100
    one.checkpoint({})
    expected = random.random(), np.random.rand(), torch.rand(2)
    two = job(tmp_path, resume=True)
    two.restore()
    assert same((random.random(), np.random.rand(), torch.rand(2)), expected)
    two.save(figures={})
    assert two.saved["seconds"] >= 100


def test_when_a_checkpoint_is_due(tmp_path):
    one = job(tmp_path)
    assert not one.due() and not one.due(0, every=5) and one.due(5, every=5) and not one.due(6, every=5)
    one._checkpointed -= 60
    assert one.due()
    one.checkpoint({})
    assert not one.due()


def test_an_interrupted_run_leaves_a_checkpoint(tmp_path):
    one = job(tmp_path)
    one.due()
    one.interrupt(signal.SIGINT)
    one.interrupt(signal.SIGINT)  # the same Ctrl-C, by way of the parent
    assert one.due()
    with pytest.raises(Interrupted) as stop:
        one.checkpoint({"n": 7})
    assert stop.value.exit_code == 130
    assert job(tmp_path, resume=True).restore() == {"n": 7}
    for timer in threading.enumerate():
        if isinstance(timer, threading.Timer):
            timer.cancel()


def test_a_recipe_that_never_asks_is_stopped_at_once(tmp_path):
    one = job(tmp_path)
    with pytest.raises(Interrupted):
        one.interrupt(signal.SIGTERM)


def test_devices():
    assert compute.pick_device("cpu") == torch.device("cpu")
    assert compute.pick_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    for name in ("tpu", "cuda:x", "cpu:1", ""):
        with pytest.raises(UsageError, match="There is: auto, cpu, cuda, mps"):
            compute.pick_device(name)


def test_absent_devices_are_said_to_be_absent(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(CourseError, match="--device cpu"):
        compute.pick_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert compute.pick_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(CourseError, match="no cuda:2 here; there is cuda:0, cuda:1"):
        compute.pick_device("cuda:2")


def test_seeds():
    drawn = []
    for _ in range(2):
        compute.seed_everything(2**40 + 1)
        drawn.append((random.random(), np.random.rand(), torch.rand(3)))
    assert same(*drawn)


def test_the_machine_describes_itself():
    found = compute.hardware(torch.device("cpu"))
    assert found["cores"] >= 1 and found["cpu"] and found["gpu"] is None
    number = torch.__version__.partition("+")[0]  # not every build tells the packager what it was built for
    assert compute.versions()["torch"].partition("+")[0] == number
    before = host.peak_memory_mb()
    held = torch.ones(40 * 2**20)  # 160 MB
    assert host.peak_memory_mb() > before + 100 or before > 500
    del held


def test_two_processes_train_as_one_job(tmp_path):
    folder = toy_course.make(tmp_path / "copy")
    done = toy_course.call(folder, "step1_toy.train", "--preset", "smoke", "--out", "out")
    assert done.returncode == 0, done.stderr
    done = toy_course.call(
        folder,
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "-m",
        "step2_toy.train",
        "--preset",
        "smoke",
        "--device",
        "cpu",
        "--out",
        "out",
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((folder / "out" / "step2_toy" / "artifact.json").read_text())
    assert found["processes"] == 2 and found["figures"]["mean_rank"] == 0.5
    assert done.stdout.count("exact_match_before") == 1
    assert sorted(path.name for path in Path(folder / "out").iterdir()) == ["step1_toy", "step2_toy"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no cuda on this machine")
def test_attention_on_a_gpu_does_not_compile_itself_for_each_length_of_rows(tmp_path):
    before = torch.backends.cuda.cudnn_sdp_enabled()
    try:
        Job("step3_pretrain", "smoke", device="cuda", out=tmp_path)
        assert not torch.backends.cuda.cudnn_sdp_enabled()
    finally:
        torch.backends.cuda.enable_cudnn_sdp(before)
