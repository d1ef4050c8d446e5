"""The shared training loop resumes exactly, whatever stage it was interrupted in."""

import contextlib
import copy
import random
from argparse import Namespace

import pytest
import torch
from torch import nn

from course import steps
from course.machine import compute
from course.training.chat import Chat
from course.training.fit import fit
from course.world import sample_scenes, story
from course.world.exam import conversation, exam, prompt


class Stop(Exception):
    pass


class Job:
    """As much of a job as `training.fit` asks for; stops at one moment, as a kill after a checkpoint would."""

    options, device, processes, world_size = Namespace(), torch.device("cpu"), compute.Processes(), 1
    autocast = contextlib.nullcontext

    def __init__(self, stop=None, kept=None):
        self.stop, self.stored, self.asked, self.stages = stop, kept, 0, {}

    def use(self, name):
        return steps.load(name, "solution")

    def bar(self, total, label, initial=0):
        from tqdm import tqdm

        return tqdm(total=total, disable=True)

    def due(self, step):
        self.asked += 1
        return self.asked == self.stop

    def checkpoint(self, state):
        self.stored = copy.deepcopy(state)
        raise Stop

    def resumed(self):
        return copy.deepcopy(self.stored) or {}


class Tiny(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.table, self.head = nn.Embedding(11, 6), nn.Linear(6, 11)

    def forward(self, input_ids, labels):
        logits = self.head(self.table(input_ids))
        return logits, nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())


def two_stages(job):
    """Train the head alone, then everything: (weights, curves)."""
    model, config = Tiny(), steps.load("step3", "solution").TrainConfig(max_steps=6, warmup_steps=2)

    def batch(i):
        ids = torch.randint(0, 11, (3, 5), generator=torch.Generator().manual_seed(i))
        return {"input_ids": ids, "labels": ids}

    model.table.requires_grad_(False)
    first = fit(job, model, batch, config, stage="first")
    model.table.requires_grad_(True)
    second = fit(job, model, batch, config, stage="second")
    return model.state_dict(), (first, second)


@pytest.mark.parametrize("stop", [2, 5, 7, 9, 11])
def test_interrupted_anywhere_it_ends_as_if_nothing_had_happened(stop):
    weights, curves = two_stages(Job())
    interrupted = Job(stop)
    with pytest.raises(Stop):
        two_stages(interrupted)
    again, curves_again = two_stages(Job(kept=interrupted.stored))
    assert curves_again == curves
    assert all(torch.equal(weights[name], again[name]) for name in weights)


def test_chat_says_what_a_model_says_and_stops_where_it_ends():
    """A model that knows its lines: replies come back as text, in order, without the end token, and in any batch
    size."""
    tokenizer = steps.load("step1", "solution").train(
        [" ".join(prompt(s, q.text) for s, q in exam("train", 30, 3))], 400
    )
    chat = Chat(tokenizer, steps.load("step4", "solution"))
    items = exam("held_out", 9, 2)
    lines = {tuple(chat.encode(prompt(s, q.text))): q.preferred for s, q in items}

    class Actor(nn.Module):
        def generate(self, input_ids, attention_mask, max_new_tokens, eos_token_id):
            out = []
            for ids, mask in zip(input_ids.tolist(), attention_mask.tolist()):
                ids = ids[mask.index(1) :]
                assert ids[0] == chat.special["<|user|>"] and ids[-1] == chat.special["<|assistant|>"]
                line = chat.encode(lines[tuple(ids[1:-1])])
                out.append((line + [eos_token_id] * max_new_tokens)[:max_new_tokens])
            return torch.tensor(out)

    for batch_size in (1, 4, 100):
        replies = chat.replies(Actor(), [prompt(s, q.text) for s, q in items], batch_size=batch_size)
        assert replies == [q.preferred for _, q in items]


def test_a_training_row_supervises_every_answer_and_nothing_else():
    tokenizer = steps.load("step1", "solution").train(["What colour is the star? red."], 300)
    chat = Chat(tokenizer, steps.load("step4", "solution"))
    for scene in sample_scenes(5):
        messages = conversation(scene, random.Random(1), 4, 0.5)
        ids, labels = chat.row(messages)
        learned = tokenizer.decode([i for i in labels if i >= 0 and i != chat.end])
        assert learned == "".join(" " + m["content"] for m in messages if m["role"] == "assistant")
        assert sum(label == chat.end for label in labels) == 4


def test_a_blank_is_padding_and_the_words_around_it_are_what_they_are_without():
    tokenizer = steps.load("step1", "solution").train([story(s, random.Random(0)) for s in sample_scenes(200)], 700)
    chat = Chat(tokenizer, steps.load("step4", "solution"))
    ids = chat.encode_with_blanks("at the top a big ___ star and a ___ ring.")
    assert ids == [
        *chat.encode("at the top a big"),
        chat.pad,
        *chat.encode("star and a"),
        chat.pad,
        *chat.encode("ring."),
    ]
    assert chat.encode_with_blanks("___ ring") == [chat.pad, *chat.encode("ring")]
    ids, labels = chat.row([{"role": "user", "content": "?"}, {"role": "assistant", "content": "a ___ ring."}])
    assert ids.count(chat.pad) == 1
    assert chat.pad not in chat.ids([{"role": "user", "content": "What is a ___ ring?"}], True)  # nobody can type one


def test_an_answer_begins_with_the_token_that_its_word_is_in_the_scene():
    tokenizer = steps.load("step1", "solution").train([story(s, random.Random(0)) for s in sample_scenes(200)], 700)
    chat = Chat(tokenizer, steps.load("step4", "solution"))
    read = set(chat.encode("Scene: at the top a big red star."))
    for word in ("red", "star", "at the top"):
        ids, labels = chat.row([{"role": "user", "content": "?"}, {"role": "assistant", "content": word}])
        learned = [i for i in labels if i >= 0 and i != chat.end]
        assert learned and set(learned) <= read
