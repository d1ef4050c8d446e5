"""Preferences: the model that answers learns to name its evidence, by Direct Preference Optimization.

    python3 -m step5_rlhf.train --preset tiny

A pair is one question about a scene with two right answers, a bare one (rejected) and one that names its evidence
(chosen). Needs the artifacts of steps 1 to 4.
"""

import copy
import random

import torch

from course.training.arguments import training_arguments
from course.training.chat import Chat
from course.training.fit import fit, load_model, load_tokenizer
from course.world import KINDS, preference, questions, sample_scenes
from course.world.exam import exam, prompt, score

PRESETS = {
    "smoke": dict(pairs=4, max_steps=4, learning_rate=1e-4, warmup_steps=1, exam_scenes=4, beta=0.1),
    "tiny": dict(pairs=16, max_steps=100, learning_rate=1e-4, warmup_steps=10, exam_scenes=200, beta=0.1),
    "small": dict(pairs=64, max_steps=100, learning_rate=1e-5, warmup_steps=10, exam_scenes=300, beta=0.1),
    "base": dict(pairs=64, max_steps=600, learning_rate=5e-6, warmup_steps=20, exam_scenes=1000, beta=0.1),
}
QUESTIONS_PER_SCENE = 3  # in the exam
ASKED = [kind for kind in KINDS if kind != "describe"]  # a description is its own evidence

add_arguments = training_arguments


def pairs(chat: Chat, count: int, seed: int) -> dict[str, torch.Tensor]:
    """`count` pairs as one batch of 2 * count rows: the chosen replies first, then the rejected ones in that order."""
    rng = random.Random(f"{seed} pairs")
    chosen, rejected = [], []
    for scene in sample_scenes(count, "train", rng.randrange(2**60)):
        question = questions(scene, rng, 1, ASKED)[0]
        ask = {"role": "user", "content": prompt(scene, question.text)}
        chosen.append([ask, {"role": "assistant", "content": question.preferred}])
        rejected.append([ask, {"role": "assistant", "content": question.bare}])
    return chat.batch(chosen + rejected)


def train(job) -> dict:
    """DPO; figures: how often the new replies are preferred to the old ones, and exact match before and after."""
    settings = dict(job.settings)
    trainer, rlhf = job.use("step3_pretrain"), job.use("step5_rlhf")
    chat = Chat(load_tokenizer(job), job.use("step4_sft"), job.device)
    policy = load_model(job, "step4_sft")
    reference = copy.deepcopy(policy).requires_grad_(False).eval()
    count, beta, scenes = (settings.pop(key) for key in ("pairs", "beta", "exam_scenes"))
    config = trainer.TrainConfig(min_lr=settings["learning_rate"] / 10, weight_decay=0.0, **settings)

    def next_batch(i: int) -> dict:
        batch = pairs(chat, count, job.seed * 1_000_003 + i)
        with torch.no_grad(), job.autocast():
            return {**batch, "reference": rlhf.reply_logprobs(reference, batch)}

    margins = []

    def loss_fn(model, batch):
        (chosen, rejected), (ref_chosen, ref_rejected) = (
            both.chunk(2) for both in (rlhf.reply_logprobs(model, batch), batch["reference"])
        )
        loss, good, bad = rlhf.dpo_loss(chosen, rejected, ref_chosen, ref_rejected, beta)
        margins.append((good - bad).mean().item())
        return loss, len(good)

    items = exam("held_out", scenes, QUESTIONS_PER_SCENE)
    asked = [prompt(scene, question.text) for scene, question in items]

    def ask(model, label: str) -> list[str]:
        with job.bar(len(asked), label, unit="question") as bar, job.autocast():
            return chat.replies(model, asked, each=bar.update)

    old = ask(reference, "exam before")
    curve = fit(job, policy, next_batch, config, loss_fn)
    new = ask(policy, "exam")
    before, after = score(items, old), score(items, new)
    wins = [preference(scene, reply, other) for (scene, _), reply, other in zip(items, new, old)]
    figures = {
        "method": "dpo",
        "win_rate": sum(wins) / len(wins),
        "exact_match_before": before["exact_match"],
        "exact_match": after["exact_match"],
        "names_evidence_before": before["names_evidence"],
        "names_evidence": after["names_evidence"],
        "by_kind": after["by_kind"],
        "reward_margin": sum(margins[-20:]) / len(margins[-20:]) if margins else None,
    }
    history = {"loss": curve, "reward margin": [[i, m] for i, m in enumerate(margins, config.max_steps - len(margins))]}
    job.save(tensors=policy.state_dict(), config=policy.config.__dict__, figures=figures, history=history)
    return figures


if __name__ == "__main__":
    from course.training.script import main

    main(__file__)
