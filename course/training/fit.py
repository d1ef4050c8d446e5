"""What the recipes of steps 3 to 6 share: loading what earlier steps left, and step 3's `fit` with a bar and
checkpoints."""

from collections.abc import Callable
from typing import Any

import torch

from course import kernels
from course.machine import compute
from course.training.job import Job


def load_model(job: Job, step: str) -> torch.nn.Module:
    """The GPT that a step left, in the chain's code (strict: a checkpoint of another shape is refused by name).

    Parts that were learnt and checked in step 2 give way to faster ones with the same results: see kernels.use.
    """
    gpt = kernels.use(job.use("step2_gpt"), job.device, compiled=getattr(job.options, "compile", False))
    artifact = job.load(step)
    model = gpt.GPT(gpt.GPTConfig(**artifact.config))
    model.load_state_dict(artifact.tensors, strict=True)
    return model.to(job.device)


def load_tokenizer(job: Job) -> Any:
    """Step 1's tokenizer."""
    artifact = job.load("step1_tokenizer")
    return job.use("step1_tokenizer").Tokenizer.from_json(
        (artifact.path / "tokenizer.json").read_text(encoding="utf-8")
    )


def fit(
    job: Job,
    model: torch.nn.Module,
    next_batch: Callable[[int], dict],
    config: Any,
    loss_fn: Callable | None = None,
    stage: str = "train",
    all_used: bool = True,
) -> list[list[float]]:
    """Train `model` in place with the learner's (or the solution's) trainer; return its curve [[step, loss], ...].

    next_batch(i) gives micro-batch i, on the model's device; with several processes each gets other ones. config is
    a TrainConfig of step 3. A recipe with several stages names them: when an interrupted run is resumed, a stage
    that was over is skipped (and its curve returned), because the checkpoint of the later stage holds its result.
    Where some batches leave some parameters without a gradient, all_used is False: several processes need to know.
    """
    trainer = job.use("step3_pretrain")
    done, kept = job.stages, job.resumed()
    if stage in kept.get("stages", {}):
        done[stage] = kept["stages"][stage]
        return done[stage]
    state, curve = (kept["fit"], kept["curve"]) if kept.get("stage") == stage else (None, [])
    kernels.forget()  # what exams before this have left on a GPU
    wrapped = compute.wrap(model, job.device, all_used)
    if getattr(job.options, "compile", False):
        wrapped = torch.compile(wrapped)
    bar = job.bar(config.max_steps, stage, initial=len(curve))
    rank, world = job.processes.rank, job.world_size
    loop = trainer.fit(
        wrapped, lambda i: next_batch(i * world + rank), config, loss_fn or trainer.model_loss, state, job.autocast
    )
    for step, loss, state in loop:
        curve.append([step, compute.mean(loss, job.device)])
        bar.set_postfix_str(f"loss {sum(value for _, value in curve[-20:]) / len(curve[-20:]):.3f}", refresh=False)
        bar.update()
        if job.due(step) and step + 1 < config.max_steps:
            job.checkpoint({"stage": stage, "fit": state, "curve": curve, "stages": done})
    bar.close()
    done[stage] = curve
    return curve
