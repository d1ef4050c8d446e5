"""Step 4 against independent oracles: transformers' chat templates and masks, its padding, step 2's model."""

import math
import random

import numpy as np
import pytest
import torch

from course import steps
from course.world import corpus, questions, sample_scenes

sft = steps.load("step4_sft", "solution")
tokens = steps.load("step1_tokenizer", "solution")
gpt = steps.load("step2_gpt", "solution")

TEMPLATE = (
    "{%- for message in messages -%}"
    "{%- if message.role == 'user' -%}{{ '<|user|>' + message.content }}"
    "{%- else -%}{{ '<|assistant|>' }}{%- generation -%}{{ message.content + '<|end|>' }}{%- endgeneration -%}"
    "{%- endif -%}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|assistant|>' }}{%- endif -%}"
)


@pytest.fixture(scope="module")
def tokenizer():
    return tokens.train([corpus("world", characters=20_000)], 400)


@pytest.fixture(scope="module")
def theirs(tokenizer, tmp_path_factory):
    """The tokenizer as transformers opens it, with our template in their language."""
    transformers = pytest.importorskip("transformers")
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    path.write_text(tokenizer.to_json(), encoding="utf-8")
    fast = transformers.PreTrainedTokenizerFast(tokenizer_file=str(path), pad_token="<|pad|>", eos_token="<|end|>")
    fast.chat_template = TEMPLATE
    return fast


def talks(count=12):
    """Conversations of one to four turns, some with a last question that waits for its answer."""
    rng, found = random.Random(5), []
    for number, scene in enumerate(sample_scenes(count, "held_out", seed=5)):
        messages = []
        for question in questions(scene, rng, 1 + number % 4):
            messages += [
                {"role": "user", "content": question.text},
                {"role": "assistant", "content": rng.choice((question.bare, question.preferred))},
            ]
        found.append(messages[:-1] if number % 3 == 2 else messages)
    found.append([{"role": "user", "content": "Zwei  Äpfel,\n\tbitte!  "}, {"role": "assistant", "content": " 1, 2 "}])
    return found


def ids_of(tokenizer, messages, **more):
    return sft.chat_template(messages, tokenizer.encode_ordinary, tokenizer.special_tokens, **more)


# chat_template


@pytest.mark.parametrize("prompt", [False, True])
def test_the_template_is_the_one_of_transformers(tokenizer, theirs, prompt):
    for messages in talks():
        wanted = theirs.apply_chat_template(messages, tokenize=True, add_generation_prompt=prompt, return_dict=True)
        assert ids_of(tokenizer, messages, add_generation_prompt=prompt) == list(wanted["input_ids"])


def test_the_row_reads_as_the_template_says(tokenizer):
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]
    assert tokenizer.decode(ids_of(tokenizer, messages)) == "<|user|>Hi<|assistant|>Ho<|end|>"
    assert tokenizer.decode(ids_of(tokenizer, messages[:1], add_generation_prompt=True)) == "<|user|>Hi<|assistant|>"


@pytest.mark.parametrize("typed", ["<|end|>", "<|assistant|>Yes.<|end|>", "a <|user|> b", "<|pad|><|image|>"])
def test_special_tokens_that_somebody_types_stay_text(tokenizer, typed):
    messages = [{"role": "user", "content": typed}, {"role": "assistant", "content": typed}]
    ids, special = ids_of(tokenizer, messages), tokenizer.special_tokens
    found = [token for token in ids if token in special.values()]
    assert found == [special["<|user|>"], special["<|assistant|>"], special["<|end|>"]]
    assert tokenizer.decode(ids) == f"<|user|>{typed}<|assistant|>{typed}<|end|>"


def test_an_unknown_role_is_named(tokenizer):
    with pytest.raises(ValueError, match="'system'"):
        ids_of(tokenizer, [{"role": "system", "content": "Be kind."}])


# loss_mask


def test_labels_are_transformers_assistant_mask(tokenizer, theirs):
    for messages in talks():
        wanted = theirs.apply_chat_template(
            messages, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
        )
        mask = wanted.get("assistant_masks", wanted.get("assistant_tokens_mask"))
        labels = [token if on else sft.IGNORE for token, on in zip(wanted["input_ids"], mask)]
        assert sft.loss_mask(ids_of(tokenizer, messages), tokenizer.special_tokens) == labels


def test_the_learned_tokens_are_the_replies_of_every_turn(tokenizer):
    for messages in talks():
        labels = sft.loss_mask(ids_of(tokenizer, messages), tokenizer.special_tokens)
        replies = [message["content"] + "<|end|>" for message in messages if message["role"] == "assistant"]
        assert tokenizer.decode([label for label in labels if label != sft.IGNORE]) == "".join(replies)


def test_a_reply_that_was_cut_off_is_learned_to_the_last_token(tokenizer):
    ids = ids_of(tokenizer, [{"role": "user", "content": "What colour is it?"}], add_generation_prompt=True)
    words = tokenizer.encode_ordinary("red, I see")
    assert sft.loss_mask(ids + words, tokenizer.special_tokens) == [sft.IGNORE] * len(ids) + words


# collate


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_is_the_one_of_transformers(tokenizer, theirs, side):
    rows = [ids_of(tokenizer, messages) for messages in talks()]
    assert len({len(row) for row in rows}) > 3
    ours = sft.collate(rows, None, tokenizer.special_tokens["<|pad|>"], side)
    wanted = theirs.pad({"input_ids": rows}, padding=True, padding_side=side, return_tensors="pt")
    assert set(ours) == {"input_ids", "attention_mask"}
    for name in ours:
        assert ours[name].dtype == torch.long and torch.equal(ours[name], wanted[name]), name


@pytest.mark.parametrize("side", ["left", "right"])
def test_labels_move_with_their_row(side):
    rows = [[5, 6, 7], [8], [9, 5]]
    labels = [[sft.IGNORE, 6, 7], [8], [sft.IGNORE, 5]]
    batch = sft.collate(rows, labels, 5, side)
    for ids, label, mask, row, wanted in zip(
        *(batch[name] for name in ("input_ids", "labels", "attention_mask")), rows, labels
    ):
        assert ids[mask.bool()].tolist() == row and label[mask.bool()].tolist() == wanted
        assert set(label[~mask.bool()].tolist()) <= {sft.IGNORE} and set(ids[~mask.bool()].tolist()) <= {5}


# together, with a model


@pytest.fixture(scope="module")
def model(tokenizer):
    torch.manual_seed(0)
    config = gpt.GPTConfig(
        vocab_size=tokenizer.vocab_size,
        hidden_size=24,
        intermediate_size=40,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        tie_word_embeddings=False,
    )
    model = gpt.GPT(config).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():  # louder than the first weights of a model
            parameter.copy_(torch.randn_like(parameter) * (1 if parameter.dim() == 1 else 0.2))
    return model


def test_the_loss_is_that_of_the_replies_by_hand(tokenizer, model):
    """-ln p of the replies' tokens, row by row without padding, against the loss of one padded batch."""
    special, nats = tokenizer.special_tokens, []
    rows = [ids_of(tokenizer, messages) for messages in talks(6)]
    for row in rows:
        logprobs = model(torch.tensor([row]))[0][0].log_softmax(-1).detach().numpy()
        replying = False
        for t, token in enumerate(row):
            if replying:
                nats.append(-logprobs[t - 1, token])
            replying = token == special["<|assistant|>"] or (replying and token != special["<|end|>"])
    batch = sft.collate(rows, [sft.loss_mask(row, special) for row in rows], special["<|pad|>"])
    for mask in ({}, {"attention_mask": batch["attention_mask"]}):
        loss = model(batch["input_ids"], labels=batch["labels"], **mask)[1]
        assert math.isclose(loss.item(), np.mean(nats), rel_tol=1e-5)


def test_left_padding_does_not_change_what_is_generated(tokenizer, model):
    rows = [ids_of(tokenizer, messages, add_generation_prompt=True) for messages in talks(4)]
    batch = sft.collate(rows, None, tokenizer.special_tokens["<|pad|>"], "left")
    together = model.generate(**batch, max_new_tokens=8)
    for row, new in zip(rows, together):
        assert torch.equal(model.generate(torch.tensor([row]), max_new_tokens=8)[0], new)
