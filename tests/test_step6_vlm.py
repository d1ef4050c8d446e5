"""Step 6 against independent oracles: transformers' CLIP and LLaVA on random weights, hashes, properties.

What is tested is the solution: `course check` measures a learner against the solution, and this file measures
the solution against the world."""

import hashlib
import math
import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from course import checking, steps
from course.checking import StandInLM
from course.training.chat import Chat
from course.world import COLORS, SHAPES, pixels, sample_scenes, split_of
from course.world import SIZES as WORLD_SIZES
from step6_vlm import train_clip
from step6_vlm.train import Batches

vlm = steps.load("step6_vlm", "solution")
SIZES = dict(
    image_size=24, patch_size=8, hidden_size=20, intermediate_size=36, num_hidden_layers=3, num_attention_heads=4
)
PREFIX = "vision_model."


@pytest.fixture(autouse=True)
def same_numbers():
    torch.manual_seed(5)


def without_prefix(weights):
    """Both spellings of a CLIP vision tower's names as ours: some files write `vision_model.` in front."""
    return {name.removeprefix(PREFIX): value for name, value in weights.items() if not name.endswith("position_ids")}


def shaken(module):
    """The module in eval mode with all its weights random: biases and norms too, which begin at 0 and 1."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return module.eval()


def eye():
    return shaken(vlm.CLIPVisionModel(vlm.CLIPVisionConfig(**SIZES)))


def digest(module):
    state = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        state.update(name.encode() + value.cpu().numpy().tobytes())
    return state.hexdigest()


# The eye is transformers' CLIPVisionModel.


@pytest.fixture(scope="module")
def theirs():
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(6)
    return shaken(transformers.CLIPVisionModel(transformers.CLIPVisionConfig(**SIZES)))


@pytest.mark.parametrize("prefix", ["", PREFIX], ids=["bare names", "with vision_model."])
def test_the_eye_is_clips(theirs, prefix):
    ours = vlm.CLIPVisionModel(vlm.CLIPVisionConfig(**SIZES)).eval()
    checkpoint = {prefix + name: value for name, value in without_prefix(theirs.state_dict()).items()}
    ours.load_state_dict(without_prefix(checkpoint), strict=True)
    pictures = torch.randn(2, 3, 24, 24)
    with torch.no_grad():
        said = theirs(pixel_values=pictures, output_hidden_states=True)
        states = said.hidden_states
        assert len(states) == SIZES["num_hidden_layers"] + 1
        assert torch.allclose(ours(pictures), states[-2][:, 1:], atol=1e-4)
        for layer in (-4, -3, -2, -1, 0, 1, 2, 3):
            assert torch.allclose(ours(pictures, layer=layer), states[layer][:, 1:], atol=1e-4), layer
        assert torch.allclose(ours.pooled(pictures), said.pooler_output, atol=1e-4)
        tower = getattr(theirs, "vision_model", theirs)
        assert torch.allclose(ours.embeddings(pictures), tower.embeddings(pictures), atol=1e-5)


def test_the_names_are_clips(theirs):
    ours = vlm.CLIPVisionModel(vlm.CLIPVisionConfig(**SIZES)).state_dict()
    wanted = without_prefix(theirs.state_dict())
    assert sorted((name, value.shape) for name, value in ours.items()) == sorted(
        (name, value.shape) for name, value in wanted.items()
    )
    with torch.device("meta"):
        base = vlm.CLIPVisionModel(vlm.CLIPVisionConfig(224, 16, 768, 3072, 12, 12))
    assert sum(p.numel() for p in base.parameters()) == 85_799_424  # openai/clip-vit-base-patch16
    assert len(base.state_dict()) == 199 and base.config.num_patches == 196


def test_the_last_block_need_not_run():
    tower, ran = eye(), []
    for number, block in enumerate(tower.encoder.layers):
        block.register_forward_hook(lambda *_, number=number: ran.append(number))
    tower(torch.randn(1, 3, 24, 24))
    assert ran == [0, 1]


def test_patches_come_row_by_row():
    config = vlm.CLIPVisionConfig(image_size=6, patch_size=2, hidden_size=1)
    part = vlm.CLIPVisionEmbeddings(config)
    with torch.no_grad():
        part.patch_embedding.weight.fill_(1 / 12)  # the mean of a patch
        part.class_embedding.fill_(-1)
        part.position_embedding.weight.zero_()
    numbers = torch.arange(9.0).reshape(1, 1, 3, 3).repeat_interleave(2, 2).repeat_interleave(2, 3)
    numbers = numbers.expand(1, 3, 6, 6)
    assert part(numbers)[0, :, 0].tolist() == pytest.approx([-1, 0, 1, 2, 3, 4, 5, 6, 7, 8], abs=1e-5)


# The contrastive loss is transformers' CLIP's.


def test_the_loss_is_clips():
    transformers = pytest.importorskip("transformers")
    vision = dict(SIZES)
    text = dict(
        hidden_size=12,
        intermediate_size=20,
        num_hidden_layers=2,
        num_attention_heads=3,
        vocab_size=40,
        max_position_embeddings=9,
        eos_token_id=2,
        bos_token_id=1,
        pad_token_id=0,
    )
    config = transformers.CLIPConfig(vision_config=vision, text_config=text, projection_dim=16)
    clip = shaken(transformers.CLIPModel(config))
    ids = torch.randint(3, 40, (5, 7))
    ids[:, -1] = 2
    pictures = torch.randn(5, 3, 24, 24)
    with torch.no_grad():
        said = clip(input_ids=ids, pixel_values=pictures, return_loss=True)
        image = clip.visual_projection(clip.vision_model(pictures).pooler_output)  # not of length 1 yet
        words = clip.text_projection(clip.text_model(ids).pooler_output)
        loss = vlm.contrastive_loss(image, words, clip.logit_scale)
        assert loss.item() == pytest.approx(said.loss.item(), rel=1e-4)


def test_the_loss_of_chance_and_of_certainty():
    same = torch.ones(8, 4)
    assert vlm.contrastive_loss(same, same, torch.tensor(2.0)).item() == pytest.approx(math.log(8), rel=1e-5)
    own = torch.eye(8)
    assert vlm.contrastive_loss(own, 3 * own, torch.tensor(100.0).log()).item() < 1e-6


# Frozen means that nothing moves.


class Moving(nn.Module):
    """Stands in for an eye, with everything that could move: dropout, batch norm, weights."""

    def __init__(self, width):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(12, width), nn.BatchNorm1d(3), nn.Dropout(0.5), nn.Sequential(nn.Linear(width, width))
        )

    def forward(self, x):
        return self.layers(x)


def test_training_leaves_the_eye_as_it_was():
    llm = StandInLM(11, 6)
    model = vlm.VLM(llm, 8, 6, 3, Moving(8))
    hashes = {"eye": digest(model.vision), "projection": digest(model.projection), "llm": digest(llm)}
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.1)
    ids, pictures = torch.randint(11, (2, 4)), torch.randn(2, 3, 12)
    for _ in range(3):
        model.train()
        first, again = model.vision(pictures), model.vision(pictures)
        assert torch.equal(first, again) and not first.requires_grad
        optimizer.zero_grad()
        model(ids, model.vision(pictures), labels=ids)[1].backward()
        optimizer.step()
    assert digest(model.vision) == hashes["eye"]
    assert all(parameter.grad is None for parameter in model.vision.parameters())
    assert digest(model.projection) != hashes["projection"] and digest(llm) != hashes["llm"]


def test_train_keeps_the_eye_in_eval():
    model = vlm.VLM(StandInLM(11, 6), 20, 6, 9, eye())
    for switch in (model.train, model.eval, lambda: model.train(True), lambda: model.train(False)):
        assert switch() is model
        assert not any(part.training for part in model.vision.modules())
        assert model.projection.training == model.llm.training == model.training
    blind = vlm.VLM(StandInLM(11, 6), 20, 6, 9)
    assert blind.vision is None and blind.train().llm.training and not blind.eval().llm.training


def test_features_may_be_kept():
    model = vlm.VLM(StandInLM(11, 6), 20, 6, 9, eye())
    pictures = torch.randn(3, 3, 24, 24)
    kept = model.see(pictures)
    assert not kept.requires_grad and kept.shape == (3, 9, 20)
    assert torch.equal(model.train().see(pictures), kept)
    assert torch.allclose(model.see(pictures[1:2]), kept[1:2], atol=1e-5)


# The VLM is LLaVA.


def llava(transformers):
    text = dict(
        model_type="llama",
        vocab_size=50,
        hidden_size=16,
        intermediate_size=28,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        rms_norm_eps=1e-5,
        bos_token_id=1,
        eos_token_id=2,
        tie_word_embeddings=False,
    )
    config = transformers.LlavaConfig(
        vision_config=dict(SIZES, model_type="clip_vision_model"),
        text_config=text,
        image_token_index=49,
        image_seq_length=9,
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
        projector_hidden_act="gelu",
    )
    return shaken(transformers.LlavaForConditionalGeneration(config))


def part_of(weights, *prefixes):
    for prefix in prefixes:
        found = {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
        if found:
            return found
    raise KeyError(prefixes)


def ours_from(theirs):
    """The same weights in the course's classes: eye, projection and the GPT of step 2."""
    gpt = steps.load("step2_gpt", "solution")
    weights = theirs.state_dict()
    config = theirs.config.text_config
    names = (
        "vocab_size",
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
        "max_position_embeddings",
        "rms_norm_eps",
    )
    llm = gpt.GPT(gpt.GPTConfig(**{name: getattr(config, name) for name in names}, tie_word_embeddings=False))
    body = part_of(weights, "model.language_model.", "language_model.model.")
    head = weights.get("lm_head.weight", weights.get("language_model.lm_head.weight"))
    llm.load_state_dict(
        {**{f"model.{name}": value for name, value in body.items()}, "lm_head.weight": head}, strict=True
    )
    tower = vlm.CLIPVisionModel(vlm.CLIPVisionConfig(**SIZES))
    tower.load_state_dict(without_prefix(part_of(weights, "model.vision_tower.", "vision_tower.")), strict=True)
    model = vlm.VLM(llm, SIZES["hidden_size"], config.hidden_size, 9, tower)
    projector = part_of(weights, "model.multi_modal_projector.", "multi_modal_projector.")
    model.projection.load_state_dict(projector, strict=True)
    return model.eval()


def test_the_vlm_is_llava_with_the_picture_first():
    transformers = pytest.importorskip("transformers")
    theirs = llava(transformers)
    ours = ours_from(theirs)
    pictures, words = torch.randn(2, 3, 24, 24), torch.randint(3, 49, (2, 6))
    whole = torch.cat([torch.full((2, 9), 49), words], dim=1)
    labels = torch.cat([torch.full((2, 9), -100), words], dim=1)
    with torch.no_grad():
        said = theirs(input_ids=whole, pixel_values=pictures, attention_mask=torch.ones_like(whole), labels=labels)
        logits, loss = ours(words, ours.see(pictures), labels=words)
        assert torch.allclose(logits, said.logits, atol=1e-4)
        assert loss.item() == pytest.approx(said.loss.item(), rel=1e-4)
        new = theirs.generate(
            input_ids=whole,
            pixel_values=pictures,
            attention_mask=torch.ones_like(whole),
            max_new_tokens=5,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=0,
        )[:, whole.shape[1] :]
        assert ours.generate(words, ours.see(pictures), max_new_tokens=5).tolist() == new.tolist()


def test_the_vlm_is_llava_with_pictures_in_their_places():
    """Two pictures in one row, one in another, none in the third; the rows padded on the left."""
    transformers = pytest.importorskip("transformers")
    theirs = llava(transformers)
    ours = ours_from(theirs)
    ours.image_token_id = 49
    pictures = torch.randn(3, 3, 24, 24)
    word, seen = lambda n: torch.randint(3, 49, (n,)).tolist(), [49] * 9
    rows = [word(2) + seen + word(1) + seen + word(3), seen + word(4), word(5)]
    T = max(map(len, rows))
    ids = torch.tensor([[0] * (T - len(row)) + row for row in rows])
    mask = torch.tensor([[0] * (T - len(row)) + [1] * len(row) for row in rows])
    labels = ids.where((ids != 49) & (mask.cumsum(1) > 1), -100)  # a row's first word follows nothing
    with torch.no_grad():
        said = theirs(input_ids=ids, pixel_values=pictures, attention_mask=mask, labels=labels)
        features = list(ours.see(pictures).split([2, 1, 0]))
        logits, loss = ours(ids, features, labels=labels, attention_mask=mask)
        there = mask.bool()
        assert torch.allclose(logits[there], said.logits[there], atol=1e-4)
        assert loss.item() == pytest.approx(said.loss.item(), rel=1e-4)
        new = theirs.generate(
            input_ids=ids,
            pixel_values=pictures,
            attention_mask=mask,
            max_new_tokens=5,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=0,
        )[:, T:]
        assert ours.generate(ids, features, mask, max_new_tokens=5).tolist() == new.tolist()


# The picture goes in front, and the words see it.


def language_models():
    gpt = steps.load("step2_gpt", "solution")
    config = gpt.GPTConfig(
        vocab_size=13,
        hidden_size=8,
        intermediate_size=12,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
    )
    return [shaken(StandInLM(13, 8)), shaken(gpt.GPT(config))]


@pytest.fixture(params=[0, 1], ids=["stand-in", "GPT"])
def model(request):
    return shaken(vlm.VLM(language_models()[request.param], 5, 8, 4))


def test_words_see_the_picture_and_not_the_other_way_round(model):
    features, ids = torch.randn(2, 4, 5, requires_grad=True), torch.randint(13, (2, 6))
    words = model.llm.get_input_embeddings()(ids).detach().requires_grad_()
    embeds = vlm.token_concat(model.projection(features), words)
    logits, _ = model.llm(inputs_embeds=embeds)
    (picture,) = torch.autograd.grad(logits[:, -1].sum(), features, retain_graph=True)
    assert (picture.abs().sum(-1) > 0).all()
    (back,) = torch.autograd.grad(logits[:, :4].sum(), words)
    assert not back.any()


def test_rows_without_a_picture_are_the_language_models(model):
    ids = torch.randint(13, (2, 6))
    logits, loss = model(ids, labels=ids)
    alone, its_loss = model.llm(input_ids=ids, labels=ids)
    assert torch.allclose(logits, alone, atol=1e-6) and torch.allclose(loss, its_loss)
    loss.backward()
    assert all(parameter.grad is None for parameter in model.projection.parameters())
    assert any(parameter.grad is not None for parameter in model.llm.parameters())


def test_the_loss_is_that_of_the_words_alone(model):
    features, ids = torch.randn(2, 4, 5), torch.randint(13, (2, 6))
    logits, loss = model(ids, features, labels=ids)
    guesses = logits[:, 3:-1]  # the last patch guesses the first word
    by_hand = F.cross_entropy(guesses.reshape(-1, 13), ids.reshape(-1))
    assert torch.allclose(loss, by_hand, atol=1e-5)


def test_a_batch_says_what_each_row_says(model):
    """Batch = single = padded on the left = without cache."""
    features = torch.randn(3, 4, 5)
    rows = [torch.randint(1, 13, (n,)).tolist() for n in (2, 5, 3)]
    ids = torch.tensor([[0] * (5 - len(row)) + row for row in rows])
    mask = torch.tensor([[0] * (5 - len(row)) + [1] * len(row) for row in rows])
    together = model.generate(ids, features, mask, max_new_tokens=6)
    for number, row in enumerate(rows):
        one = torch.tensor([row])
        alone = model.generate(one, features[number : number + 1], max_new_tokens=6)
        assert together[number].tolist() == alone[0].tolist()
        for _ in range(6):  # the whole row read again for each token
            token = model(one, features[number : number + 1])[0][:, -1].argmax(-1)
            one = torch.cat([one, token[:, None]], dim=1)
        assert one[0, len(row) :].tolist() == alone[0].tolist()


def test_in_front_and_in_places_agree(model):
    """The same picture and words: one row, the same logits, loss, gradients and answers."""
    features, words = torch.randn(3, 4, 5), torch.randint(1, 13, (3, 6))
    model.image_token_id = 0
    ids = torch.cat([torch.zeros(3, 4, dtype=torch.long), words], dim=1)
    labels = vlm.vlm_labels(ids, {"<|image|>": 0, "<|pad|>": -1, "<|assistant|>": int(words[0, 0]), "<|end|>": -1})
    said = {}
    for name, given in (
        ("in front", (words, features, labels[:, 4:])),
        ("in places", (ids, list(features[:, None]), labels)),
    ):
        model.zero_grad()
        logits, loss = model(*given)
        loss.backward()
        gradients = [p.grad.clone() for part in (model.projection, model.llm) for p in part.parameters()]
        said[name] = [logits.detach(), loss.detach(), *gradients, model.generate(given[0], given[1], max_new_tokens=5)]
    for one, other in zip(*said.values()):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_a_missing_picture_is_an_error(model):
    model.image_token_id = 0
    ids = torch.tensor([[0] * 4 + [5, 6], [7, 8, 9, 5, 6, 4]])
    picture = torch.randn(1, 4, 5)
    none = picture[:0]
    assert model(ids, [picture, none])[0].shape == (2, 6, 13)
    for features in (None, [none, none], [none, picture], [picture], [picture, picture], [picture[:, :3], none]):
        with pytest.raises(ValueError, match="places"):
            model(ids, features)


def test_each_row_keeps_its_own_pictures():
    """What Megatron-Core's and transformers' comparison of totals lets pass."""
    places = torch.tensor([[True, True, False], [False, True, False]])
    images = [torch.ones(1, 1, 4), 2 * torch.ones(2, 1, 4)]
    with pytest.raises(ValueError, match=r"keep \[2, 1\] places"):
        vlm.place_tokens(images, torch.zeros(2, 3, 4), places)
    placed = vlm.place_tokens(images[::-1], torch.zeros(2, 3, 4), places)
    assert placed[..., 0].tolist() == [[2, 2, 0], [0, 1, 0]]


def test_the_labels_are_step_4s():
    """On conversations without pictures, the labels of a batch are those that step 4 makes row by row."""
    sft, rng = steps.load("step4_sft", "solution"), random.Random(3)
    special = {
        name: number for number, name in enumerate(("<|pad|>", "<|user|>", "<|assistant|>", "<|end|>", "<|image|>"))
    }
    talks = [
        [
            {"role": role, "content": "a" * rng.randrange(6)}
            for _ in range(rng.randrange(1, 4))
            for role in ("user", "assistant")
        ]
        for _ in range(7)
    ]
    rows = [sft.chat_template(talk, lambda text: [5 + rng.randrange(9) for _ in text], special) for talk in talks]
    for side in ("left", "right"):
        batch = sft.collate(rows, [sft.loss_mask(row, special) for row in rows], 0, side)
        labels = vlm.vlm_labels(batch["input_ids"], special)
        assert labels.dtype == torch.int64 and torch.equal(labels, batch["labels"])


def test_pictures_of_others_are_refused():
    words = torch.randn(3, 4, 6)
    for picture in (torch.randn(1, 2, 6), torch.randn(2, 2, 6), torch.randn(3, 2, 5)):
        with pytest.raises(ValueError, match="picture"):
            vlm.token_concat(picture, words)


# The lesson's sizes.


def test_the_sizes_of_the_lesson():
    projection = vlm.Projection(vision_dim=768, text_dim=512)
    assert projection(torch.randn(2, 196, 768)).shape == (2, 196, 512)
    model = vlm.VLM(StandInLM(7, 512), 768, 512, 196)
    picture = model.projection(torch.randn(1, 196, 768))
    assert vlm.token_concat(picture, torch.randn(1, 20, 512)).shape == (1, 216, 512)
    check = checking.lesson("step6_vlm").checks["projection"]
    shown = [check.shows(case) for case in checking.make_cases(check, 0)]
    assert shown[0] == "Projection(vision_dim=768, text_dim=512)(features [2, 196, 768])"
    assert any(said.startswith("VLM(llm, ") and ".projection(" in said for said in shown)


@pytest.mark.parametrize(
    "body, fault",
    [
        ("nn.Conv1d(vision_dim, text_dim, 3, padding=1)", "patches mixed"),
        ("nn.Sequential(nn.BatchNorm1d(vision_dim), nn.Conv1d(vision_dim, text_dim, 1))", "pictures mixed"),
    ],
)
def test_projections_that_mix_are_refused(body, fault):
    """Beyond the catalogue: layers that look reasonable and are not patch by patch."""
    source = steps.find_step("step6_vlm").file("solution").read_text(encoding="utf-8")
    start, end = source.index("        self.linear_1 = "), source.index("# TODO token_concat")
    source = (
        source[:start] + f"        self.layer = {body}\n\n    def forward(self, features):\n"
        "        return self.layer(features.transpose(1, 2)).transpose(1, 2)\n\n\n" + source[end:]
    )
    module = steps.execute(
        source, steps.find_step("step6_vlm").file("solution"), "other_projection", shown_as="<other>"
    )
    finding = checking.check("step6_vlm", module, "projection")
    assert finding.status == "wrong"
    said = {"patches mixed": "other patches", "pictures mixed": "other pictures"}[fault]
    assert any(said in text for text in [finding.difference, *finding.more]), finding.text()


# what the eye is trained on


def test_a_family_is_told_alike_and_its_colours_are_hidden_together():
    rng, kinds = random.Random(0), set()
    for start in range(40):
        (scene,) = sample_scenes(1, "train", start)
        family = [scene] + [train_clip.twin(scene, rng) for _ in range(3)]
        assert all(split_of(twin) in ("train",) for twin in family)
        drawn = pixels(family, 32, 1)
        shown, told = train_clip.as_shown(family, drawn, rng)
        says = tuple(
            any(word in text.split() for text in told for word in words) for words in (COLORS, SHAPES, WORLD_SIZES)
        )
        for text, twin in zip(told, family):
            every = [getattr(s, name) for s in twin.shapes for name in ("color", "shape", "size")]
            assert [w for w in text.replace(",", "").split() if w in every] == [
                w
                for s in twin.shapes
                for w, said in zip((s.size, s.color, s.shape), (says[2], says[0], says[1]))
                if said
            ]
        assert says[0] == np.array_equal(shown, drawn), "colours that are told are seen, others are not"
        kinds.add(says)
    assert kinds >= {(True, True, True), (False, True, True), (True, False, True)}


def test_a_twin_differs_in_one_attribute():
    rng = random.Random(1)
    for scene in sample_scenes(100, "train", 2):
        other = train_clip.twin(scene, rng)
        parts = [[(s.color, s.shape, s.size, s.place) for s in each.shapes] for each in (scene, other)]
        (old,), (new,) = (set(parts[0]) - set(parts[1])), (set(parts[1]) - set(parts[0]))
        assert sum(a != b for a, b in zip(old, new)) == 1


def test_the_patches_mean_what_layer_minus_two_says():
    clip = train_clip.build(vlm)
    pictures = torch.randn(3, 3, 64, 64)
    by_class, by_patches = clip.embed_both(pictures)
    torch.testing.assert_close(by_class, clip.embed_pictures(pictures))
    expected = F.normalize(clip.patch_projection(clip.vision_model(pictures)).mean(1), dim=-1)
    torch.testing.assert_close(by_patches, expected)
    assert not clip.vision_model.encoder.layers[-2]._forward_hooks


def test_the_recipes_batches_are_seen_told_or_nameless():
    """Every fourth batch has the nameless pictures' features and blanks for colours, every third one no picture."""
    tokenizer = steps.load("step1_tokenizer", "solution").train(["a red ring at the top left. " * 9], 300)
    chat = Chat(tokenizer, steps.load("step4_sft", "solution"))
    scenes = sample_scenes(40, "train", 2)
    features, nameless = torch.arange(40.0).view(40, 1, 1), 100 + torch.arange(20.0).view(20, 1, 1)
    batches = Batches(chat, scenes, features, nameless, vlm, 4, 2, 3, 4, seed=0)
    for i in range(12):
        batch = batches(i)
        said = tokenizer.decode(batch["input_ids"].flatten().tolist())
        told, without = i % 3 == 2, i % 4 == 3 and i % 3 != 2
        assert ("Scene:" in said) == told and ("features" in batch) == (not told)
        if not told:
            numbers = batch["features"].flatten()
            assert ((numbers >= 100) == without).all() and len(numbers) == 4
        if without:
            assert not any(color in said for color in COLORS)
            blanks = (batch["input_ids"] == chat.pad) & (batch["labels"].roll(-1, 1) >= 0)  # within an answer
            assert blanks.any() and (batch["labels"][blanks] == vlm.IGNORE).all()
