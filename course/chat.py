"""Talking to a model: conversations about scenes as batches, and a model's replies as text, scored exactly.

Steps 4 to 6 train and are measured with this. It owns no model code: the tokenizer is step 1's, the template, loss
mask and collate are step 4's, whoever wrote them.
"""

import random
from collections.abc import Callable, Sequence

import torch

from course.world import (
    BLANK,
    KINDS,
    Question,
    Scene,
    colorless,
    describe,
    is_correct,
    names_evidence,
    questions,
    sample_scenes,
)

Item = tuple[Scene, Question]


def prompt(scene: Scene | None, text: str) -> str:
    """What a user says: a scene told in words and a question about it; without a scene, the question alone."""
    return text if scene is None else f"Scene: {describe(scene)}. {text}"


def conversation(
    scene: Scene, rng: random.Random, turns: int, evidence: float, told: bool = True, nameless: bool = False
) -> list[dict]:
    """Several questions about one scene and their right answers, as messages.

    `evidence` is the share of answers that name their evidence; `told` puts the scene into words in the first
    question (otherwise a picture has to show it); `nameless` leaves colours blank, which then have no name.
    """
    # A description is as long as all other answers together, and copied sooner than looked up: one row in four has
    # it. What is learned last is asked twice.
    kinds = [kind for kind in KINDS if kind != "describe" or rng.random() < 0.25] + ["where", "color", "relation"]
    asked = (
        colorless(questions(scene, rng, 3 * turns, kinds))[:turns] if nameless else questions(scene, rng, turns, kinds)
    )
    messages = []
    for turn, question in enumerate(asked):
        answer = question.preferred if rng.random() < evidence else question.bare
        messages.append({"role": "user", "content": prompt(scene if told and turn == 0 else None, question.text)})
        messages.append({"role": "assistant", "content": answer})
    return messages


def exam(split: str, scenes: int, per_scene: int, seed: int = 1234) -> list[Item]:
    """Questions about `scenes` scenes of a split, of different kinds; the same seed asks the same questions."""
    rng = random.Random(f"{seed} {split} exam")
    return [(s, q) for s in sample_scenes(scenes, split, seed) for q in questions(s, rng, per_scene)]


def score(items: Sequence[Item], replies: Sequence[str]) -> dict:
    """Exact match over all items and by kind, and the share of replies that name true evidence."""
    right: dict[str, list[bool]] = {}
    for (_, question), reply in zip(items, replies):
        right.setdefault(question.kind, []).append(is_correct(question, reply))
    return {
        "exact_match": sum(map(sum, right.values())) / len(items),
        "by_kind": {kind: sum(marks) / len(marks) for kind, marks in sorted(right.items())},
        "names_evidence": sum(names_evidence(scene, reply) for (scene, _), reply in zip(items, replies)) / len(items),
    }


class Chat:
    """A tokenizer and a chat template (the module of step 4) put to work on one device."""

    def __init__(self, tokenizer, sft, device: torch.device | str = "cpu"):
        self.tokenizer, self.sft, self.device = tokenizer, sft, torch.device(device)
        self.special = tokenizer.special_tokens
        self.end, self.pad = self.special["<|end|>"], self.special["<|pad|>"]

    def encode(self, text: str) -> list[int]:
        """Ids of a message. It begins with a space, so that its first word is the token that it is anywhere else:
        to say " red" is to copy what was read, but "red" without the space is spelled in other tokens (step 1)."""
        return self.tokenizer.encode_ordinary(" " + text)

    def encode_with_blanks(self, text: str) -> list[int]:
        """The same for what is learned from, in which a BLANK is padding: a word that is there, but not known."""
        first, *others = (" " + text).split(f" {BLANK}")
        ids = self.tokenizer.encode_ordinary(first)
        for part in others:
            ids += [self.pad, *self.tokenizer.encode_ordinary(part)]
        return ids

    def ids(self, messages: Sequence[dict], add_generation_prompt: bool = False) -> list[int]:
        """Ids of a conversation; with the generation prompt, it is the model's turn."""
        return self.sft.chat_template(messages, self.encode, self.special, add_generation_prompt)

    def row(self, messages: Sequence[dict]) -> tuple[list[int], list[int]]:
        """Ids and labels of a conversation."""
        ids = self.sft.chat_template(messages, self.encode_with_blanks, self.special, False)
        return ids, self.sft.loss_mask(ids, self.special)

    def batch(self, conversations: Sequence[Sequence[dict]]) -> dict[str, torch.Tensor]:
        """A training batch of conversations. Padding is on the right, where no token looks: no mask is needed."""
        rows, labels = zip(*map(self.row, conversations))
        batch = self.sft.collate(rows, labels, self.pad)
        return {name: batch[name].to(self.device) for name in ("input_ids", "labels")}

    @torch.no_grad()
    def replies(
        self,
        model,
        prompts: Sequence[str],
        features: torch.Tensor | None = None,
        max_new_tokens: int = 80,
        batch_size: int = 128,
        each: Callable[[int], object] = lambda count: None,
        **options,
    ) -> list[str]:
        """The model's reply to each prompt, greedily unless `options` for generate say otherwise.

        features [N, P, D]: what an eye saw beside each prompt, for a model that takes it. `each` is told how many
        replies have been added, for a progress bar.
        """
        training = model.training
        model.eval()
        texts = []
        for i in range(0, len(prompts), batch_size):
            rows = [self.ids([{"role": "user", "content": p}], True) for p in prompts[i : i + batch_size]]
            batch = self.sft.collate(rows, None, self.pad, "left")
            batch = {name: batch[name].to(self.device) for name in ("input_ids", "attention_mask")}
            if features is not None:
                batch["features"] = features[i : i + batch_size].to(self.device)
            out = model.generate(**batch, max_new_tokens=max_new_tokens, eos_token_id=self.end, **options)
            for ids in out.tolist():
                text = self.tokenizer.decode(ids[: ids.index(self.end)] if self.end in ids else ids)
                texts.append(text.removeprefix(" "))
            each(len(rows))
        model.train(training)
        return texts
