"""Step 5's solution against oracles that share no line with it: numpy, Hugging Face, the papers' formulas."""

import copy
import math
import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from course import authoring, checking, steps
from course.checking import StandInLM
from course.training.chat import Chat
from course.world import is_correct, names_evidence, preference, questions, sample_scenes

IGNORE = -100


@pytest.fixture(scope="module")
def rlhf():
    return steps.load("step5_rlhf", "solution")


def batch(B=4, T=9, V=13, seed=0):
    g = torch.Generator().manual_seed(seed)
    logits, labels = 3 * torch.randn(B, T, V, generator=g), torch.randint(0, V, (B, T), generator=g)
    for row, (start, end) in zip(labels, ((0, T), (3, T), (2, 6), (5, 6))):
        row[:start], row[end:] = IGNORE, IGNORE
    return logits, labels


def by_hand(logits, labels):
    """Log-probabilities of replies in float64, token by token."""
    sums = []
    for row, marks in zip(logits.double().numpy(), labels.numpy()):
        total = 0.0
        for t in range(1, len(marks)):
            if marks[t] != IGNORE:
                scores = row[t - 1] - row[t - 1].max()
                total += scores[marks[t]] - np.log(np.exp(scores).sum())
        sums.append(total)
    return torch.tensor(sums)


def vectors(B=6, seed=0):
    g = torch.Generator().manual_seed(seed)
    return [-30 * torch.rand(B, generator=g, dtype=torch.float64) for _ in range(4)]


# sequence_logprobs


def test_logprobs_by_hand(rlhf):
    logits, labels = batch()
    ours = rlhf.sequence_logprobs(logits, labels).double()
    torch.testing.assert_close(ours, by_hand(logits, labels), rtol=1e-5, atol=1e-5)


def test_logprobs_of_a_coin(rlhf):
    logits = torch.log(torch.tensor([[[0.5, 0.5], [0.25, 0.75], [0.9, 0.1]]]))
    labels = torch.tensor([[IGNORE, 1, 0]])
    assert rlhf.sequence_logprobs(logits, labels).item() == pytest.approx(math.log(0.5 * 0.25), rel=1e-6)


def test_logprobs_are_the_loss_of_hugging_face(rlhf):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=31,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    model = transformers.LlamaForCausalLM(config).eval()
    ids = torch.randint(0, 31, (3, 10))
    labels = ids.clone()
    labels[:, :4] = IGNORE
    labels[1, 7:] = IGNORE
    with torch.no_grad():
        logprobs = rlhf.sequence_logprobs(model(input_ids=ids).logits, labels)
        for row in range(3):
            loss = model(input_ids=ids[row : row + 1], labels=labels[row : row + 1]).loss
            counted = (labels[row, 1:] != IGNORE).sum()
            assert logprobs[row].item() == pytest.approx(-(loss * counted).item(), rel=1e-5)


def test_a_padded_row_is_worth_what_it_is_worth_alone(rlhf):
    model = StandInLM(13, 8)
    ids = torch.randint(0, 13, (1, 6))
    labels = ids.clone()
    labels[:, :2] = IGNORE
    padded = {"input_ids": F.pad(ids, (0, 4)), "labels": F.pad(labels, (0, 4), value=IGNORE)}
    alone = rlhf.reply_logprobs(model, {"input_ids": ids, "labels": labels})
    torch.testing.assert_close(rlhf.reply_logprobs(model, padded), alone)


def test_all_replies_of_one_token_sum_to_one(rlhf):
    logits = torch.randn(1, 3, 7).expand(7, 3, 7)
    labels = torch.tensor([[IGNORE, IGNORE, token] for token in range(7)])
    assert rlhf.sequence_logprobs(logits, labels).exp().sum().item() == pytest.approx(1.0, rel=1e-5)


def test_impossible_tokens_stay_finite(rlhf):
    logits = torch.tensor([[[0.0, 4000.0], [0.0, 0.0]]], requires_grad=True)
    logprob = rlhf.sequence_logprobs(logits, torch.tensor([[IGNORE, 0]]))
    logprob.sum().backward()
    assert logprob.item() == -4000 and logits.grad.isfinite().all()


# reward_loss


def test_reward_loss_by_hand(rlhf):
    chosen, rejected = np.array([2.0, -1.0, 0.5]), np.array([1.0, 3.0, 0.5])
    expected = np.mean(-np.log(1 / (1 + np.exp(-(chosen - rejected)))))
    ours = rlhf.reward_loss(torch.tensor(chosen), torch.tensor(rejected)).item()
    assert ours == pytest.approx(expected, rel=1e-9)


def test_reward_loss_is_a_comparison(rlhf):
    chosen, rejected = torch.randn(2, 5, dtype=torch.float64)
    assert rlhf.reward_loss(chosen, chosen).item() == pytest.approx(math.log(2))
    torch.testing.assert_close(rlhf.reward_loss(chosen + 7, rejected + 7), rlhf.reward_loss(chosen, rejected))
    for far in (-5000.0, 5000.0):
        loss = rlhf.reward_loss(torch.tensor([far]), torch.tensor([0.0]))
        assert loss.item() == pytest.approx(max(0.0, -far))


def test_fitted_rewards_are_the_bradley_terry_maximum(rlhf):
    """With pairs compared as often as their probability says, the fit gives the rewards back."""
    true = torch.tensor([0.0, 1.0, -0.7, 2.1], dtype=torch.float64)
    wins = (true[:, None] - true[None]).sigmoid()
    fitted = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([fitted], max_iter=100, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = sum(
            wins[i, j] * rlhf.reward_loss(fitted[i : i + 1], fitted[j : j + 1])
            for i in range(4)
            for j in range(4)
            if i != j
        )
        loss.backward()
        return loss

    optimizer.step(closure)
    torch.testing.assert_close(fitted.detach() - fitted.detach()[0], true, rtol=1e-3, atol=1e-3)


# dpo_loss


def test_dpo_by_hand(rlhf):
    pc, pr, rc, rr = vectors()
    loss, good, bad = rlhf.dpo_loss(pc, pr, rc, rr, 0.3)
    a, b = 0.3 * (pc.numpy() - rc.numpy()), 0.3 * (pr.numpy() - rr.numpy())
    assert loss.item() == pytest.approx(np.mean(np.log1p(np.exp(-(a - b)))), rel=1e-9)
    np.testing.assert_allclose(good.numpy(), a)
    np.testing.assert_allclose(bad.numpy(), b)


def test_dpo_is_the_reward_models_loss_on_its_rewards(rlhf):
    loss, good, bad = rlhf.dpo_loss(*vectors(seed=1), 0.2)
    torch.testing.assert_close(loss, rlhf.reward_loss(good, bad))
    torch.testing.assert_close(rlhf.dpo_loss(*vectors(seed=1))[0], rlhf.dpo_loss(*vectors(seed=1), 0.1)[0])


def test_dpo_starts_at_ln_2(rlhf):
    policy_chosen, policy_rejected = vectors()[:2]
    loss, good, bad = rlhf.dpo_loss(policy_chosen, policy_rejected, policy_chosen, policy_rejected, 0.7)
    assert loss.item() == pytest.approx(math.log(2)) and not good.any() and not bad.any()


def test_swapping_the_pair_changes_the_loss(rlhf):
    pc, pr, rc, rr = vectors()
    one, other = rlhf.dpo_loss(pc, pr, rc, rr, 0.2)[0], rlhf.dpo_loss(pr, pc, rr, rc, 0.2)[0]
    margins = 0.2 * ((pc - rc) - (pr - rr))
    torch.testing.assert_close(other - one, margins.mean())  # log sigmoid(m) - log sigmoid(-m) = m


def test_dpo_gradient_is_the_papers(rlhf):
    """Rafailov et al. 2023, section 4, in the weights of a model:
    -beta E[sigmoid(r_l - r_w) (grad log pi(y_w) - grad log pi(y_l))]."""
    torch.manual_seed(0)
    B, T, V, beta = 5, 8, 11, 0.3
    model = StandInLM(V, 6).double()
    rows = {"input_ids": torch.randint(0, V, (2 * B, T))}
    rows["labels"] = rows["input_ids"].clone()
    rows["labels"][:, :3] = IGNORE
    reference = -20 * torch.rand(2 * B, dtype=torch.float64)
    weights = list(model.parameters())

    chosen, rejected = rlhf.reply_logprobs(model, rows).double().chunk(2)
    loss, good, bad = rlhf.dpo_loss(chosen, rejected, *reference.chunk(2), beta)
    ours = torch.autograd.grad(loss, weights)

    theirs = [torch.zeros_like(weight) for weight in weights]
    for i in range(B):

        def logprob(row):
            logits = model(input_ids=rows["input_ids"][row : row + 1])[0][0, 2:-1].log_softmax(-1)
            return logits[torch.arange(T - 3), rows["input_ids"][row, 3:]].sum()

        up, down = (torch.autograd.grad(logprob(row), weights) for row in (i, B + i))
        weight = beta * torch.sigmoid(bad[i] - good[i]) / B
        theirs = [total - weight * (u - d) for total, u, d in zip(theirs, up, down)]
    for mine, paper in zip(ours, theirs):
        torch.testing.assert_close(mine, paper, rtol=1e-4, atol=1e-6)


def test_no_gradient_but_to_the_policy(rlhf):
    leaves = [one.requires_grad_() for one in vectors()]
    loss, good, bad = rlhf.dpo_loss(*leaves, 0.2)
    loss.backward()
    assert leaves[2].grad is None and leaves[3].grad is None
    assert not good.requires_grad and not bad.requires_grad
    assert (leaves[0].grad < 0).all() and (leaves[1].grad > 0).all()


def test_the_best_policy_is_the_reference_times_exp_of_reward_over_beta(rlhf):
    """For Bradley and Terry's preferences, DPO stands still at the closed form of the paper's equation 4."""
    g = torch.Generator().manual_seed(3)
    reference, reward = (torch.randn(5, generator=g, dtype=torch.float64) for _ in range(2))
    reference, beta = reference.log_softmax(0), 0.4
    policy = (reference + reward / beta).log_softmax(0).requires_grad_()
    total = 0.0
    for i in range(5):
        for j in range(5):
            if i != j:
                one = [value.reshape(1) for value in (policy[i], policy[j], reference[i], reference[j])]
                total = total + torch.sigmoid(reward[i] - reward[j]) * rlhf.dpo_loss(*one, beta)[0]
    assert torch.autograd.grad(total, policy)[0].abs().max() < 1e-12


def test_dpo_raises_held_out_margins(rlhf):
    """Preferred replies end with an even token: a small model learns it for questions not seen."""
    torch.manual_seed(0)
    V, D = 24, 16
    policy = StandInLM(V, D)
    reference = copy.deepcopy(policy).requires_grad_(False)

    def pairs(count, seed):
        rng = random.Random(seed)
        rows = {"chosen": [], "rejected": []}
        for _ in range(count):
            start = [rng.randrange(V) for _ in range(5)]
            rows["chosen"].append([*start, 2 * rng.randrange(V // 2)])
            rows["rejected"].append([*start, 2 * rng.randrange(V // 2) + 1])
        ids = torch.tensor(rows["chosen"] + rows["rejected"])
        labels = ids.clone()
        labels[:, :5] = IGNORE
        return {"input_ids": ids, "labels": labels}

    def outcome(rows):
        (chosen, rejected), (ref_chosen, ref_rejected) = (
            rlhf.reply_logprobs(model, rows).chunk(2) for model in (policy, reference)
        )
        return rlhf.dpo_loss(chosen, rejected, ref_chosen, ref_rejected, 0.1)

    held_out, frozen = pairs(200, "held out"), copy.deepcopy(reference.state_dict())
    loss, good, bad = outcome(held_out)
    assert loss.item() == pytest.approx(math.log(2), rel=1e-5)
    optimizer = torch.optim.Adam(policy.parameters(), lr=1e-2)
    for step in range(60):
        optimizer.zero_grad()
        outcome(pairs(32, step))[0].backward()
        optimizer.step()
    loss, good, bad = outcome(held_out)
    assert loss < 0.6 and (good - bad).mean() > 0.2 and (good > bad).float().mean() > 0.9
    assert all(torch.equal(frozen[name], value) for name, value in reference.state_dict().items())


# the recipe's pairs


def test_pairs_differ_in_evidence_alone():
    tokenizer_code, sft, train = (
        steps.load(step, which)
        for step, which in (("step1_tokenizer", "solution"), ("step4_sft", "solution"), ("step5_rlhf", "train"))
    )
    tokenizer = tokenizer_code.train(["a small red circle at the top, I see it."], 300)
    chat = Chat(tokenizer, sft)
    rows = train.pairs(chat, 20, seed=5)
    assert rows["input_ids"].shape == rows["labels"].shape and len(rows["labels"]) == 40
    said = [[token for token in row.tolist() if token not in (IGNORE, chat.end)] for row in rows["labels"]]
    replies = [tokenizer.decode(ids) for ids in said]
    asked = [
        tokenizer.decode(ids[labels == IGNORE].tolist()).split("<|assistant|>")[0]
        for ids, labels in zip(rows["input_ids"], rows["labels"])
    ]
    for chosen, rejected, question, same in zip(replies[:20], replies[20:], asked[:20], asked[20:]):
        assert question == same and chosen.startswith(rejected.rstrip(".") + ", I see ")
    assert torch.equal(train.pairs(chat, 20, seed=5)["input_ids"], rows["input_ids"])
    assert not torch.equal(train.pairs(chat, 20, seed=6)["labels"], rows["labels"])


def test_preference_has_nothing_to_do_with_correctness():
    rng = random.Random(0)
    for scene in sample_scenes(40, "held_out"):
        question = next(q for q in questions(scene, rng) if q.evidence)
        wrong = f"mauve, I see {question.evidence}."
        assert not is_correct(question, wrong) and names_evidence(scene, wrong)
        assert preference(scene, wrong, question.bare) == 1 and preference(scene, question.bare, wrong) == 0
        assert preference(scene, question.preferred, wrong) == 0.5
        assert preference(scene, question.bare, "mauve.") == 0.5
        assert preference(scene, f"{question.answer}, I see a mauve circle at the top.", question.bare) == 0.5


@pytest.mark.parametrize("seed", [5148, 5187, 5197])
def test_a_right_logprob_of_very_unlikely_tokens_is_not_refused(seed):
    """Seeds with which float32's rounding of logits in the thousands was taken for a wrong gradient."""
    step = steps.find_step("step5")
    source, todo = step.file("solution").read_text(encoding="utf-8"), "sequence_logprobs"
    fragment = steps.ROOT / "tests" / "alternatives" / step.name / f"{todo}__loops.py"
    grafted = authoring.graft(source, fragment.read_text(encoding="utf-8"), authoring.todo_functions(source)[todo])
    module = steps.execute(grafted, step.file("solution"), "seeds", shown_as="<loops>")
    finding = checking.check(step, module, todo, seed=seed)
    assert finding.passed, finding.text()
