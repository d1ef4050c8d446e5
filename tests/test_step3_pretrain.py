"""Step 3 against independent oracles: torch's and transformers' schedules, NumPy, float64 sums by hand."""

import copy
import math

import numpy as np
import pytest
import torch

from course import steps
from course.machine import artifacts

trainer = steps.load("step3_pretrain", "solution")
gpt = steps.load("step2_gpt", "solution")

V = 37


def small_gpt(seed=0, **more):
    torch.manual_seed(seed)
    return gpt.GPT(
        gpt.GPTConfig(
            vocab_size=V,
            hidden_size=24,
            intermediate_size=40,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            **more,
        )
    )


def text(length, seed=0):
    return torch.randint(0, V, (length,), generator=torch.Generator().manual_seed(seed))


def nats_by_hand(model, ids):
    """-ln p of each token of a row but the first, one position at a time, in float64."""
    with torch.no_grad():
        logits = model.double()(input_ids=ids[None])[0][0].numpy()
    model.float()
    shifted = logits - logits.max(-1, keepdims=True)
    logprobs = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return np.array([-logprobs[t, ids[t + 1]] for t in range(len(ids) - 1)])


# next_token_batch


@pytest.mark.parametrize("length, context", [(20, 7), (7, 7), (8, 7), (9, 2)])
def test_windows_are_those_of_numpy(length, context):
    tokens = text(length)
    views = np.lib.stride_tricks.sliding_window_view(tokens.numpy(), context)
    B = len(views)
    batch = trainer.next_token_batch(tokens, context, (torch.arange(B) + 0.5) / B)  # one number per window
    np.testing.assert_array_equal(batch["input_ids"], views)
    np.testing.assert_array_equal(batch["labels"], views)


def test_windows_are_equally_likely():
    uniforms = torch.rand(20_000, generator=torch.Generator().manual_seed(0))
    starts = trainer.next_token_batch(torch.arange(12), 5, uniforms)["input_ids"][:, 0]
    shares = torch.bincount(starts, minlength=8) / len(uniforms)
    assert len(shares) == 8 and (shares - 1 / 8).abs().max() < 0.01


@pytest.mark.parametrize("length", [2**24 + 100, 600_000_000, 2**31])
def test_a_text_longer_than_float32_can_count(length):
    tokens = torch.zeros(1, dtype=torch.int16).expand(length)  # takes no memory
    uniforms = torch.tensor([0.0, 0.5, 1 - 2**-24])
    assert trainer.next_token_batch(tokens, 1024, uniforms)["input_ids"].shape == (3, 1024)


def test_a_text_that_is_too_short_is_refused():
    with pytest.raises(ValueError, match="6 tokens holds no window of 7"):
        trainer.next_token_batch(text(6), 7, torch.rand(2))


# learning_rate


def config(**more):
    return trainer.TrainConfig(**{"max_steps": 100, "warmup_steps": 10, "learning_rate": 2e-3, "min_lr": 1e-4, **more})


def rates_of(make):
    """The learning rates of 100 steps of a torch scheduler for a peak of 2e-3."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2e-3)
    scheduler = make(optimizer)
    rates = []
    for _ in range(100):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def test_the_cosine_is_torchs():
    ours = [trainer.learning_rate(step, config(warmup_steps=0)) for step in range(100)]
    theirs = rates_of(lambda optimizer: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 100, eta_min=1e-4))
    np.testing.assert_allclose(ours, theirs, rtol=1e-9)


def test_the_schedule_is_transformers_one_warm_up_step_earlier():
    optimization = pytest.importorskip("transformers.optimization")
    ours = [trainer.learning_rate(step, config()) for step in range(100)]
    theirs = rates_of(
        lambda optimizer: optimization.get_cosine_with_min_lr_schedule_with_warmup(
            optimizer, num_warmup_steps=10, num_training_steps=100, min_lr=1e-4
        )
    )
    np.testing.assert_allclose(ours[10:], theirs[10:], rtol=1e-9)
    np.testing.assert_allclose(ours[:10], theirs[1:11], rtol=1e-9)  # theirs spends step 0 at a rate of 0


def test_the_schedule_is_the_formula_in_float64():
    step = np.arange(150, dtype=np.float64)
    part = np.clip((step - 10) / 90, 0, 1)
    wanted = np.where(step < 10, 2e-3 * (step + 1) / 10, 1e-4 + (2e-3 - 1e-4) * np.cos(np.pi * part / 2) ** 2)
    np.testing.assert_allclose([trainer.learning_rate(s, config()) for s in range(150)], wanted, rtol=1e-12)


@pytest.mark.parametrize("more", [{"warmup_steps": 0}, {"max_steps": 10}, {"max_steps": 5}, {"max_steps": 0}])
def test_no_schedule_divides_by_zero(more):
    rates = [trainer.learning_rate(step, config(**more)) for step in range(30)]
    assert all(0 < rate <= 2e-3 for rate in rates)


# train_step


def rows(lengths, seed, ignored=0.3):
    """A batch of one row of each length, on the right padded with ignored labels, a share of the rest ignored too."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, V, (len(lengths), max(lengths)), generator=generator)
    labels = ids.masked_fill(torch.rand(ids.shape, generator=generator) < ignored, trainer.IGNORE)
    for row, length in zip(labels, lengths):
        row[length:] = trainer.IGNORE
    return {"input_ids": ids, "labels": labels}


def test_accumulation_is_one_large_batch_though_token_counts_differ():
    large = rows([6, 5, 14, 13, 12, 9], seed=1)
    micro = [{name: value[a:b] for name, value in large.items()} for a, b in ((0, 2), (2, 5), (5, 6))]
    counts = [int((batch["labels"][:, 1:] != trainer.IGNORE).sum()) for batch in micro]
    assert len(set(counts)) == 3 and all(counts)
    outcome = []
    for batches in ([large], micro):
        model = small_gpt().double()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        outcome.append((*trainer.train_step(model, optimizer, batches, 0.05), model.state_dict()))
    (loss, norm, weights), (other_loss, other_norm, others) = outcome
    assert norm > 0.05 and norm == pytest.approx(other_norm, rel=1e-5)
    assert loss == pytest.approx(other_loss, rel=1e-6)
    for name in weights:
        torch.testing.assert_close(weights[name], others[name], rtol=1e-6, atol=1e-8)


def test_the_loss_is_the_mean_over_all_tokens_by_hand():
    model = small_gpt()
    batches = [rows([4, 9], 1, ignored=0), rows([11], 2, ignored=0)]
    nats = np.concatenate(
        [nats_by_hand(model, ids[ids != trainer.IGNORE]) for batch in batches for ids in batch["labels"]]
    )
    assert len(nats) == 3 + 8 + 10
    loss, _ = trainer.train_step(model, torch.optim.SGD(model.parameters(), lr=0.0), batches, 1.0)
    assert loss == pytest.approx(nats.mean(), rel=1e-5)


def test_clipping_bounds_the_step():
    model = small_gpt()
    before = copy.deepcopy(model.state_dict())
    trainer.train_step(model, torch.optim.SGD(model.parameters(), lr=1.0), [rows([9, 9], 1)], 0.25)
    moved = math.sqrt(sum(float((p.detach() - before[n]).square().sum()) for n, p in model.named_parameters()))
    assert moved == pytest.approx(0.25, rel=1e-4)


# bits_per_byte


@pytest.mark.parametrize("length, context", [(50, 8), (50, 50), (50, 64), (43, 7), (44, 7), (2, 2), (9, 2)])
def test_bits_are_the_sum_by_hand(length, context):
    model, ids = small_gpt().train(), text(length)
    bits, predicted = 0.0, 0
    for start in range(0, length, context - 1):
        nats = nats_by_hand(model, ids[start : start + context])
        bits, predicted = bits + nats.sum() / np.log(2), predicted + len(nats)
    assert predicted == length - 1  # every token but the first, once
    assert trainer.bits_per_byte(model, ids, 123, context, batch_size=3) == pytest.approx(bits / 123, rel=1e-5)
    assert model.training


def test_a_model_that_knows_nothing_needs_ln_v():
    model = small_gpt()
    with torch.no_grad():
        model.lm_head.weight.zero_()
    bits = trainer.bits_per_byte(model, text(101), 100, 16)
    assert bits == pytest.approx(math.log2(V), rel=1e-6)


def test_bits_per_byte_does_not_depend_on_the_tokenizer():
    """A coin of 256 sides, told byte by byte or two bytes at a time: 8 bits a byte, though the losses differ."""

    class Coin(torch.nn.Module):
        def __init__(self, sides):
            super().__init__()
            self.sides = sides

        def forward(self, input_ids, labels=None):
            return torch.zeros(*input_ids.shape, self.sides), None

    single = trainer.bits_per_byte(Coin(256), torch.randint(0, 256, (401,)), 400, 32)
    double = trainer.bits_per_byte(Coin(256**2), torch.randint(0, 256**2, (201,)), 400, 32, batch_size=2)
    assert single == pytest.approx(8, rel=1e-5) and double == pytest.approx(8, rel=1e-5)


# fit


def stream(i):
    return rows([12, 12], seed=i)


def config_of_a_run(**more):
    return trainer.TrainConfig(
        **{"max_steps": 6, "learning_rate": 1e-2, "min_lr": 1e-3, "warmup_steps": 2, "accumulation": 2, **more}
    )


@pytest.mark.parametrize("muon", [False, True])
@pytest.mark.parametrize("stop", [0, 3])
def test_an_interrupted_run_ends_with_the_same_weights_bit_for_bit(tmp_path, stop, muon):
    config = config_of_a_run(muon=muon)
    whole = small_gpt()
    losses = [loss for _, loss, _ in trainer.fit(whole, stream, config)]
    first = small_gpt()
    for step, _, state in trainer.fit(first, stream, config):
        if step == stop:
            artifacts.save_state(tmp_path / "state", state, {})
            break
    second = small_gpt(seed=99)
    rest = list(trainer.fit(second, stream, config, state=artifacts.load_state(tmp_path / "state")))
    assert [step for step, _, _ in rest] == list(range(stop + 1, 6))
    assert [loss for _, loss, _ in rest] == losses[stop + 1 :]
    for name, weight in whole.state_dict().items():
        assert torch.equal(weight, second.state_dict()[name]), name


def test_fit_asks_for_each_micro_batch_once_in_order():
    asked = []

    def next_batch(i):
        asked.append(i)
        return stream(i)

    assert len(list(trainer.fit(small_gpt(), next_batch, config_of_a_run()))) == 6
    assert asked == list(range(12))


def test_fit_is_adamw_with_this_schedule():
    """The same run with torch's own parts, put together by hand."""
    ours, theirs = small_gpt(), small_gpt()
    # Other weights than a model begins with: there some gradients are 0 but for rounding (the number that all
    # embeddings share adds the same to all logits), and Adam makes steps of full length out of that.
    weights = {
        name: torch.randn(w.shape, generator=torch.Generator().manual_seed(i)) * (1 if w.dim() == 1 else 0.2)
        for i, (name, w) in enumerate(ours.state_dict().items())
    }
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"]
    for model in (ours, theirs):
        model.load_state_dict(weights)
    settings = config_of_a_run(accumulation=1, weight_decay=0.3)
    for _ in trainer.fit(ours, stream, settings):
        pass
    norms = {id(p) for n, p in theirs.named_parameters() if "norm" in n}
    assert norms
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for p in theirs.parameters() if id(p) not in norms], "weight_decay": 0.3},
            {"params": [p for p in theirs.parameters() if id(p) in norms], "weight_decay": 0.0},
        ],
        lr=1.0,
        betas=settings.betas,
    )
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: trainer.learning_rate(step, settings))
    for i in range(6):
        optimizer.zero_grad()
        theirs(**stream(i))[1].backward()
        torch.nn.utils.clip_grad_norm_(theirs.parameters(), settings.max_grad_norm)
        optimizer.step()
        scheduler.step()
    for name, weight in ours.state_dict().items():
        torch.testing.assert_close(weight, theirs.state_dict()[name], rtol=1e-4, atol=1e-6)


def test_muon_is_torchs_for_matrices_and_adamw_for_the_rest():
    """The same run with torch.optim.Muon (which turns its matrices in bfloat16) and AdamW side by side."""
    ours, theirs = small_gpt(), small_gpt()
    settings = config_of_a_run(accumulation=1, weight_decay=0.3, muon=True)
    for _ in trainer.fit(ours, stream, settings):
        pass
    before = {name: weight.clone() for name, weight in theirs.state_dict().items()}
    names = dict(theirs.named_parameters())
    matrices = [name for name in names if name.endswith("proj.weight")]
    assert len(matrices) == 7 * len(theirs.model.layers)
    optimizers = [
        torch.optim.Muon(
            [names[n] for n in matrices],
            lr=1.0,
            weight_decay=0.3,
            momentum=0.95,
            ns_steps=3,
            adjust_lr_fn="match_rms_adamw",
        ),
        torch.optim.AdamW(
            [
                {"params": [p for n, p in names.items() if "embed" in n], "weight_decay": 0.3},
                {"params": [p for n, p in names.items() if "norm" in n], "weight_decay": 0.0},
            ],
            lr=1.0,
            betas=settings.betas,
        ),
    ]
    for step in range(6):
        for optimizer in optimizers:
            optimizer.zero_grad()
            for group in optimizer.param_groups:
                group["lr"] = trainer.learning_rate(step, settings)
        theirs(**stream(step))[1].backward()
        torch.nn.utils.clip_grad_norm_(theirs.parameters(), settings.max_grad_norm)
        for optimizer in optimizers:
            optimizer.step()
    for name, weight in ours.named_parameters():
        moved = (names[name] - before[name]).norm()
        assert moved > 0 and (weight - names[name]).norm() < 0.03 * moved, name


@pytest.mark.parametrize("shape", [(4, 7), (7, 4), (5, 5)])
def test_orthogonal_keeps_the_directions_and_evens_out_their_lengths(shape):
    torch.manual_seed(0)
    u, _, v = torch.linalg.svd(torch.randn(3, *shape), full_matrices=False)
    s = torch.tensor([1.0, 0.5, 0.3, 0.15, 0.1])[: min(shape)]
    turned = u.mT @ trainer.orthogonal(7 * (u * s) @ v) @ v.mT
    lengths = turned.diagonal(dim1=-2, dim2=-1)
    assert lengths.min() > 0.6 and lengths.max() < 1.25
    torch.testing.assert_close(turned, torch.diag_embed(lengths), rtol=0, atol=1e-4)


def test_muon_leaves_tables_and_frozen_matrices_to_others():
    model = small_gpt()
    model.model.layers[0].requires_grad_(False)
    groups = trainer.make_optimizer(model, config_of_a_run(muon=True)).param_groups
    names = {id(p): n for n, p in model.named_parameters()}
    by_muon = {names[id(p)] for group in groups for p in group["params"] if group["muon"]}
    others = {names[id(p)] for group in groups for p in group["params"] if not group["muon"]}
    assert all(".layers." in name and name.endswith("proj.weight") for name in by_muon) and by_muon
    assert not any(".layers.0." in name for name in by_muon | others)
    assert by_muon | others == {n for n, p in model.named_parameters() if p.requires_grad}


def test_a_run_that_explodes_says_what_to_try():
    model = small_gpt()
    with torch.no_grad():
        model.model.norm.weight.fill_(float("inf"))
    with pytest.raises(FloatingPointError, match="at step 0: try a lower learning rate or more warm-up"):
        next(trainer.fit(model, stream, config_of_a_run()))


def test_one_batch_is_learned_by_heart():
    model = small_gpt()
    losses = [
        loss
        for _, loss, _ in trainer.fit(
            model, lambda i: rows([12, 12], 0, ignored=0), config_of_a_run(max_steps=80, accumulation=1, warmup_steps=5)
        )
    ]
    assert abs(losses[0] - math.log(V)) < 0.6  # it starts by knowing nothing
    assert losses[-1] < 0.1
