"""What step 6 asks of each TODO. Weights are handed in, the language model is a stand-in, nothing depends on
initialisation. Where the structure is the learner's own (`projection`), properties decide."""

import torch
from torch import nn

from course.checking import Check, Problem, StandInLM, attempt, between, compare, describe, like, with_grad

IGNORE = -100


# Weights, under the names of CLIPVisionModel


def linear(g, name, inputs, outputs):
    return {
        f"{name}.weight": torch.randn(outputs, inputs, generator=g) * inputs**-0.5,
        f"{name}.bias": torch.randn(outputs, generator=g) * 0.3,
    }


def norm(g, name, size):
    return {
        f"{name}.weight": 1 + 0.4 * torch.randn(size, generator=g),
        f"{name}.bias": torch.randn(size, generator=g) * 0.3,
    }


def embeddings(g, config):
    D, C, p = config["hidden_size"], config["num_channels"], config["patch_size"]
    tokens = (config["image_size"] // p) ** 2 + 1
    return {
        "class_embedding": torch.randn(D, generator=g),
        "patch_embedding.weight": torch.randn(D, C, p, p, generator=g) * (C * p * p) ** -0.5,
        "position_embedding.weight": torch.randn(tokens, D, generator=g),
    }


def block(g, config):
    D, F = config["hidden_size"], config["intermediate_size"]
    weights = {
        **norm(g, "layer_norm1", D),
        **norm(g, "layer_norm2", D),
        **linear(g, "mlp.fc1", D, F),
        **linear(g, "mlp.fc2", F, D),
    }
    for part in "qkv":
        weights.update(linear(g, f"self_attn.{part}_proj", D, D))
    return {**weights, **linear(g, "self_attn.out_proj", D, D)}


def tower(g, config):
    D = config["hidden_size"]
    parts = {
        "embeddings": embeddings(g, config),
        **{f"encoder.layers.{i}": block(g, config) for i in range(config["num_hidden_layers"])},
    }
    weights = {f"{part}.{name}": value for part, values in parts.items() for name, value in values.items()}
    return {**weights, **norm(g, "pre_layrnorm", D), **norm(g, "post_layernorm", D)}


def sizes(side, patch, D, heads, F, layers=1):
    return {
        "image_size": side * patch,
        "patch_size": patch,
        "hidden_size": D,
        "intermediate_size": F,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_channels": 3,
        "layer_norm_eps": 0.1,
    }


def pictures(g, config, B):
    return torch.randn(B, config["num_channels"], config["image_size"], config["image_size"], generator=g)


# patch_embed


def patch_embed_cases(g):
    for B, side, patch in ((2, 3, 4), (3, 4, 2), (1, 2, 3)):
        config = sizes(side, patch, D=between(g, 5, 8), heads=1, F=4)
        yield {
            "config": config,
            "pixel_values": pictures(g, config, B),
            "weights": embeddings(g, config),
            "cotangent": torch.randn(B, side * side + 1, config["hidden_size"], generator=g),
        }


def call_patch_embed(module, case):
    part = like(case, module.CLIPVisionEmbeddings(module.CLIPVisionConfig(**case["config"])), case["weights"])
    return with_grad(part, {"pixel_values": case["pixel_values"]}, case["cotangent"], part)


def shows_patch_embed(case):
    c = case["config"]
    return (
        f"CLIPVisionEmbeddings(patch_size={c['patch_size']}, "
        f"hidden_size={c['hidden_size']})(pixel_values {list(case['pixel_values'].shape)})"
    )


# vit_block


def vit_block_cases(g):
    for B, T, D, heads in ((2, 5, 12, 3), (3, 7, 8, 2)):
        config = sizes(1, 1, D, heads, F=between(g, 14, 19))
        yield {
            "config": config,
            "x": torch.randn(B, T, D, generator=g),
            "weights": block(g, config),
            "cotangent": torch.randn(B, T, D, generator=g),
        }


def call_vit_block(module, case):
    part = like(case, module.CLIPEncoderLayer(module.CLIPVisionConfig(**case["config"])), case["weights"])
    return with_grad(part, {"x": case["x"]}, case["cotangent"], part)


# clip_vit


def clip_vit_cases(g):
    for side, D, heads, layers, asked, B in (
        (2, 12, 3, 3, (None, -1, 0, 2), 2),
        (3, 8, 2, 4, (-3, None, 1, 4, -5), 2),
        (2, 6, 1, 2, (None,), 1),
    ):
        config = sizes(side, 4, D, heads, F=10, layers=layers)
        weights = tower(g, config)
        for layer in asked:
            yield {
                "config": config,
                "pixel_values": pictures(g, config, B),
                "layer": layer,
                "weights": weights,
                "cotangent": torch.randn(B, side * side, D, generator=g),
            }


def call_clip_vit(module, case):
    eye = like(case, module.CLIPVisionModel(module.CLIPVisionConfig(**case["config"])), case["weights"])
    options = {} if case["layer"] is None else {"layer": case["layer"]}
    result = with_grad(
        lambda pixel_values: eye(pixel_values, **options),
        {"pixel_values": case["pixel_values"]},
        case["cotangent"],
        eye,
    )
    weights = dict(eye.named_parameters())  # a block that need not run may have run all the same
    result["parameters"] = {
        name: torch.zeros_like(weights[name]) if gradient is None else gradient
        for name, gradient in result["parameters"].items()
    }
    with torch.no_grad():
        return {**result, "afterwards, layer=-1": eye(case["pixel_values"], layer=-1), "in training mode": eye.training}


def shows_clip_vit(case):
    c, layer = case["config"], "" if case["layer"] is None else f", layer={case['layer']}"
    return (
        f"CLIPVisionModel(patch_size={c['patch_size']}, hidden_size={c['hidden_size']}, "
        f"num_hidden_layers={c['num_hidden_layers']})(pixel_values "
        f"{list(case['pixel_values'].shape)}{layer})"
    )


# The whole model


def assembled(module, llm, projection, num_patches, vision=None, image_token_id=-1):
    """A VLM put together by hand from given parts, so that no check has to wait for `projection`."""
    vlm = module.VLM.__new__(module.VLM)
    nn.Module.__init__(vlm)
    vlm.num_patches, vlm.image_token_id = num_patches, image_token_id
    vlm.vision, vlm.projection, vlm.llm = vision, projection, llm
    return vlm


# freeze


class Parts(nn.Module):
    """All that can move in a module: weights, a bare parameter, dropout, running statistics; some nested."""

    def __init__(self, D, E):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(E))
        self.inner = nn.Linear(D, E)
        self.norm = nn.BatchNorm1d(E)
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(E, E), nn.Dropout(0.5)) for _ in range(2))

    def forward(self, x):
        x = self.norm(self.inner(x) * self.scale)
        for layer in self.blocks:
            x = x + layer(x)
        return x


def parts_weights(g, D, E):
    weights = {"scale": 1 + 0.3 * torch.randn(E, generator=g), **linear(g, "inner", D, E), **norm(g, "norm", E)}
    weights.update(
        {
            "norm.running_mean": torch.randn(E, generator=g),
            "norm.running_var": 1 + torch.rand(E, generator=g),
            "norm.num_batches_tracked": torch.tensor(between(g, 3, 8)),
        }
    )
    for i in range(2):
        weights.update(linear(g, f"blocks.{i}.0", E, E))
    return weights


def freeze_cases(g):
    for N, D in ((6, 5), (4, 7)):
        E = between(g, 8, 11)
        yield {"x": torch.randn(N, D, generator=g), "E": E, "weights": parts_weights(g, D, E)}


def in_training(module):
    return [name or "itself" for name, part in module.named_modules() if part.training]


def look(eye, x):
    """What shows whether something in a module moves: two outputs for one input, and its state afterwards."""
    return {
        "once": eye(x),
        "again": eye(x),
        "training": in_training(eye),
        "state": dict(eye.state_dict()),
        "learns": [name for name, parameter in eye.named_parameters() if parameter.requires_grad],
    }


def call_freeze(module, case):
    x, E = case["x"], case["E"]
    eye = like(case, Parts(x.shape[1], E), case["weights"])
    own = set(vars(eye))
    returned = module.freeze(eye) is eye
    result = {
        "returned": returned,
        "new attributes": sorted(set(vars(eye)) - own),
        "frozen": look(eye, x),
        "gradient passes": eye(x.clone().requires_grad_()).requires_grad,
        "calls": {},
    }

    frozen = like(case, Parts(x.shape[1], E), case["weights"]).requires_grad_(False).eval()
    vlm = like(case, assembled(module, StandInLM(5, 3), nn.Linear(E, 3), num_patches=1, vision=frozen))
    for name, switch in (
        ("train()", lambda: vlm.train()),
        ("eval()", lambda: vlm.eval()),
        ("train(True)", lambda: vlm.train(True)),
        ("train(False)", lambda: vlm.train(False)),
    ):
        same = switch() is vlm
        result["calls"][name] = {
            "returned": same,
            "itself": vlm.training,
            "eye": in_training(vlm.vision),
            "rest": in_training(vlm.projection) + in_training(vlm.llm),
        }
        if name == "train()":
            result["after train()"] = look(vlm.vision, x)
    result["rest learns"] = [all(p.requires_grad for p in part.parameters()) for part in (vlm.projection, vlm.llm)]
    vlm.llm.requires_grad_(False)
    vlm.train()
    result["thawed"] = any(p.requires_grad for p in vlm.llm.parameters())
    vlm.vision = None
    vlm.train()
    result["without an eye"] = vlm.llm.training
    return result


def judge_freeze(case, answer, expected):
    problems = []

    def problem(name, text, *more):
        problems.append(Problem(name, text, *more))

    if not answer["returned"]:
        problem("returned", "freeze(module) does not return the module it was given")
    problems += moves(answer["frozen"], expected["frozen"], "after freeze(module)", "")
    for name, modes in answer["calls"].items():
        wanted = expected["calls"][name]
        if not modes["returned"]:
            problem("train returned", f"VLM.{name} does not return the VLM")
        if modes["eye"]:
            problem(
                "eye in training mode",
                f"after VLM.{name} these parts of the eye are in training mode: {', '.join(modes['eye'])}",
                "none",
                f"{len(modes['eye'])} of the eye's modules",
            )
        if (modes["itself"], modes["rest"]) != (wanted["itself"], wanted["rest"]):
            mode = "training" if wanted["itself"] else "eval"
            problem(
                f"rest not in {mode} mode",
                f"after VLM.{name} the projection, the language model and the VLM itself should be in {mode} mode, "
                "and are not",
            )
    problems += moves(answer["after train()"], expected["after train()"], "after VLM.train()", " of the eye")
    if not all(answer["rest learns"]):
        problem(
            "rest frozen",
            "after VLM.train() projection or language model take no gradients any more: only the eye is frozen",
        )
    if not answer["gradient passes"]:
        problem(
            "no gradient passes",
            "after freeze(module) no gradient passes through the module to what it reads. Only its own parameters are "
            "frozen: a projection can be trained in front of a frozen language model",
        )
    if answer["thawed"]:
        problem("thawed", "a language model whose parameters were frozen takes gradients again after VLM.train()")
    if answer["without an eye"] is not True:
        problem("without an eye", "VLM.train() of a VLM whose vision is None does not switch it to training")
    return problems


def moves(state, expected, when, whose):
    """What of a module moves: once after freeze(module), once for the eye after VLM.train()."""
    problems = []
    if state["learns"]:
        problems.append(
            Problem(
                f"gradients{whose}",
                f"{when} these parameters{whose} still take gradients: {', '.join(state['learns'])}",
                "requires_grad False",
                "requires_grad True",
            )
        )
    if state["training"] and not whose:
        names = ", ".join(state["training"])
        problems.append(
            Problem(
                "mode",
                f"{when} these modules are still in training mode (`itself` is the module that was given): {names}",
            )
        )
    if compare(state["again"], state["once"]):
        problems.append(
            Problem(f"dropout{whose}", f"{when} one input gives two different outputs: dropout is still at work")
        )
    for name in expected["state"]:
        if compare(state["state"].get(name), expected["state"][name]):
            problems.append(
                Problem(f"state{whose}", f"{when} two calls have changed {name}: what is frozen must not move")
            )
            break
    return problems


# projection


def projection_cases(g):
    # The lesson's own sizes, so large that only the shape is judged; then sizes that fit nothing else; one in a VLM.
    for B, P, V, D, inside in (
        (2, 196, 768, 512, False),
        (3, 5, 7, 11, False),
        (2, 6, 20, 12, False),
        (4, 3, 9, 13, True),
        (2, 4, 8, 8, False),
    ):
        yield {
            "features": torch.randn(B, P, V, generator=g),
            "text_dim": D,
            "inside": inside,
            "large": V > 100,
            "other": 10 * torch.randn(V, generator=g),
            "patch": between(g, 0, P - 1),
            "row": between(g, 0, B - 1),
            "order": torch.randperm(P, generator=g),
            "seed": between(g, 0, 10**6 - 1),
            "cotangent": None if V > 100 else torch.randn(B, P, D, generator=g),
        }


def made(module, case):
    """The learner's projection with weights of our own: no initialisation (zeros, say) hides what it does."""
    features, D = case["features"], case["text_dim"]
    _, P, V = features.shape
    if case["inside"]:
        projection = module.VLM(StandInLM(7, D), V, D, P).projection
    else:
        projection = module.Projection(vision_dim=V, text_dim=D)
    projection = like(case, projection)
    for part in projection.modules():
        if not isinstance(part, nn.modules.batchnorm._BatchNorm):
            part.training = False  # dropout is allowed; it would only blur what is measured
    if case["large"]:
        return projection
    projection(features)  # lazy layers learn their sizes
    g = torch.Generator().manual_seed(case["seed"])
    with torch.no_grad():
        for weight in projection.parameters():
            noise = torch.randn(weight.shape, generator=g).to(weight)
            if weight.dim() > 1:
                weight.copy_(noise * (weight.numel() / weight.shape[0]) ** -0.5)
            else:
                weight.add_(0.1 * noise)  # norms stay near 1, gates that begin closed open a little
    return projection


def call_projection(module, case):
    projection, features = made(module, case), case["features"]
    if case["large"]:
        return {"output": projection(features)}
    changed = features.clone()
    changed[case["row"], case["patch"]] = case["other"]
    # As they come from the eye, without the class token: not contiguous in memory.
    result = with_grad(
        lambda features: projection(torch.cat([features[:, :1], features], dim=1)[:, 1:]),
        {"features": features},
        case["cotangent"],
        projection,
    )
    copy = made(module, {**case, "seed": case["seed"] + 1})
    copy.load_state_dict(projection.state_dict())
    try:
        none = projection(features[:0])
    except Exception as error:
        none = type(error).__name__
    with torch.no_grad():
        return {
            "output": result["output"],
            "again": projection(features.clone()),
            "copy": copy(features),
            "none": none,
            "frozen": [name for name, weight in projection.named_parameters() if not weight.requires_grad],
            "permuted": projection(features[:, case["order"]]),
            "changed": projection(changed),
            "alone": projection(features[case["row"]][None]),
            "grad": result["grad"],
            "parameters": result["parameters"],
        }


def judge_projection(case, answer, expected):
    """The form first, because nothing else can be asked of a wrong one; then property after property."""
    problems = problems_of_form(case, answer)
    if problems or case["large"]:
        return problems
    return problems_of_repeating(answer) or [
        *problems_of_layers(answer),
        *problems_of_no_picture(case, answer),
        *problems_of_patches(case, answer),
        *problems_of_pictures(case, answer),
        *problems_of_influence(case, answer),
    ]


def wanted_shape(case):
    """[B, P, text_dim]."""
    return [*case["features"].shape[:2], case["text_dim"]]


def apart(answer, one, other):
    """Whether two outputs differ by more than rounding can make of numbers as large as the answer's."""
    tolerance = 1e-4 * (1 + answer["output"].abs().max().item())
    return one.shape != other.shape or not (one - other).abs().max() <= tolerance


def problems_of_form(case, answer):
    output, wanted = answer["output"], wanted_shape(case)
    if not isinstance(output, torch.Tensor) or list(output.shape) != wanted:
        text = f"the output should have the shape [B, P, text_dim] = {wanted}"
        return [Problem("shape", text, f"tensor {wanted}", describe(output))]
    if output.dtype != case["features"].dtype:
        text = "the output is not of the dtype of the features"
        return [Problem("dtype", text, str(case["features"].dtype), str(output.dtype))]
    if not output.isfinite().all():
        return [Problem("finite", "the output holds NaN or infinity")]
    return []


def problems_of_repeating(answer):
    """Without parameters, or with another output each time, there is nothing that could be compared."""
    if not answer["parameters"]:
        return [
            Problem(
                "learnable",
                "the module has no parameters: layers must be made in __init__ and kept in self, or there is nothing "
                "to train",
            )
        ]
    if apart(answer, answer["again"], answer["output"]):
        return [
            Problem(
                "same again",
                "one input gives two different outputs: are layers made, or numbers drawn, inside forward?",
            )
        ]
    return []


def problems_of_layers(answer):
    """Layers that PyTorch does not know of, and parameters that are frozen."""
    problems = []
    if apart(answer, answer["copy"], answer["output"]):
        problems.append(
            Problem(
                "not registered",
                "a second Projection that loads this one's state_dict gives another output: some layers are unknown "
                "to PyTorch, so they are not trained, moved or saved (a plain list hides them; nn.ModuleList or "
                "nn.Sequential does not)",
            )
        )
    if answer["frozen"]:
        names = ", ".join(answer["frozen"])
        problems.append(Problem("frozen", f"these parameters take no gradients, so they never learn: {names}"))
    return problems


def problems_of_no_picture(case, answer):
    """A row without pictures has features [0, P, V]."""
    _, P, D = wanted_shape(case)
    none = answer["none"]
    if isinstance(none, torch.Tensor) and list(none.shape) == [0, P, D]:
        return []
    return [
        Problem(
            "no picture",
            f"features [0, {P}, V], of a row without pictures, should give {[0, P, D]}",
            f"tensor {[0, P, D]}",
            f"{none} is raised" if isinstance(none, str) else describe(none),
        )
    ]


def problems_of_patches(case, answer):
    """Each patch of a picture has its own output, which the picture's other patches do not change."""
    output, row, patch = answer["output"], case["row"], case["patch"]
    problems = []
    if not apart(answer, output, output[:, :1].expand_as(output)):
        problems.append(
            Problem(
                "one for all",
                f"every patch gives the same output: the language model would see one patch {output.shape[1]} times",
            )
        )
    if apart(answer, answer["permuted"], output[:, case["order"]]):
        problems.append(
            Problem(
                "patch by patch",
                "putting the patches in another order should put the outputs in that order and change nothing else",
            )
        )
    others = torch.arange(output.shape[1], device=output.device) != patch
    if apart(answer, answer["changed"][row, others], output[row, others]):
        problems.append(
            Problem(
                "patches mixed",
                f"another patch {patch} of picture {row} changes the outputs of that picture's other patches",
            )
        )
    return problems


def problems_of_pictures(case, answer):
    """A picture has the same output alone and in any batch."""
    output, row = answer["output"], case["row"]
    _, P, D = wanted_shape(case)
    if answer["alone"].shape != output[row][None].shape:
        text = f"features [1, {P}, V] should give {[1, P, D]}"
        return [Problem("one picture", text, f"tensor {[1, P, D]}", describe(answer["alone"]))]
    others = torch.arange(len(output), device=output.device) != row
    if apart(answer, answer["changed"][others], output[others]) or apart(answer, answer["alone"], output[row][None]):
        return [Problem("pictures mixed", "the outputs of one picture depend on the other pictures of the batch")]
    return []


def problems_of_influence(case, answer):
    """What the output depends on: the patch, all its numbers, and every parameter."""
    row, patch, problems = case["row"], case["patch"], []
    if not apart(answer, answer["changed"][row, patch], answer["output"][row, patch]):
        text = f"another patch {patch} of picture {row} does not change its output"
        problems.append(Problem("uses the features", text))
    reach = answer["grad"]["features"]
    if reach is None:
        problems.append(Problem("gradient", "no gradient reaches the features"))
    elif unread := (reach.abs().amax((0, 1)) == 0).sum().item():
        text = f"{unread} of the {reach.shape[-1]} numbers of a patch have no influence on the output"
        problems.append(Problem("unread", text))
    idle = [name for name, gradient in answer["parameters"].items() if gradient is None or not gradient.any()]
    if idle:
        text = f"no gradient reaches these parameters, so they never learn: {', '.join(idle)}"
        problems.append(Problem("idle parameters", text))
    return problems


def shows_projection(case):
    B, P, V = case["features"].shape
    D = case["text_dim"]
    made = f"VLM(llm, {V}, {D}, {P}).projection" if case["inside"] else f"Projection(vision_dim={V}, text_dim={D})"
    return f"{made}(features [{B}, {P}, {V}])"


# token_concat


def token_concat_cases(g):
    for B, P, T, D in ((2, 5, 3, 4), (3, 4, 7, 6)):
        yield {
            "image": torch.randn(B, P, D, generator=g),
            "text": torch.randn(B, T, D, generator=g),
            "fits": True,
            "cotangent": torch.randn(B, P + T, D, generator=g),
        }
    for image, text in (((1, 5, 4), (3, 2, 4)), ((2, 3, 6), (2, 5, 7)), ((3, 4, 5), (2, 4, 5)), ((3, 5, 4), (1, 2, 4))):
        yield {"image": torch.randn(*image, generator=g), "text": torch.randn(*text, generator=g), "fits": False}


def call_token_concat(module, case):
    inputs = {"image": case["image"], "text": case["text"]}
    if case["fits"]:
        return with_grad(module.token_concat, inputs, case["cotangent"])
    return refused(lambda: module.token_concat(**inputs))


def refused(call):
    """What comes of a call that should raise ValueError: {"output", "raised": the exception's name or ""}."""
    output, error, _ = attempt(call)
    return {"output": output, "raised": error}


def judge_token_concat(case, answer, expected):
    if case["fits"]:
        return compare(answer, expected)
    if answer["raised"] == "ValueError":
        return []
    what = "batch" if case["image"].shape[0] != case["text"].shape[0] else "width"
    got = f"{answer['raised']} is raised" if answer["raised"] else describe(answer["output"])
    return [
        Problem(
            f"{what} {'raises ' + answer['raised'] if answer['raised'] else 'accepted'}",
            f"picture {list(case['image'].shape)} and text {list(case['text'].shape)} differ in "
            f"{what}, which should raise a ValueError",
            "ValueError",
            got,
        )
    ]


# place_tokens


def lined_up(g, counts, P, T):
    """places [B, T] for counts[b] pictures of P tokens in row b: each in one run, with words between them or not."""
    places = torch.zeros(len(counts), T, dtype=torch.bool)
    for row, count in zip(places, counts):
        words = T - count * P  # to be spread over the count + 1 gaps
        starts = torch.randint(words + 1, (count,), generator=g).sort().values
        for number, start in enumerate(starts.tolist()):
            row[start + number * P : start + (number + 1) * P] = True
    return places


def place_tokens_cases(g):
    # The pictures or the text may be in half precision, as under autocast on a GPU.
    for counts, P, T, D, half in (
        ((2, 0, 1), 3, 9, 5, ""),
        ((1, 1), 4, 6, 3, ""),
        ((0, 3, 1, 2), 2, 8, 7, ""),
        ((1, 2), 2, 5, 6, "images"),
        ((2, 1), 2, 6, 4, "text"),
        ((0, 0), 2, 3, 4, ""),
        ((1, 2), 3, 8, 5, "scattered"),
    ):
        places = lined_up(g, counts, P, T)
        if half == "scattered":  # nobody says that a picture's places stand together
            places = torch.stack([row[torch.randperm(T, generator=g)] for row in places])
        yield {
            "images": [torch.randn(count, P, D, generator=g) for count in counts],
            "half": half,
            "wrong": "",
            "text": torch.randn(len(counts), T, D, generator=g),
            "places": places,
            "cotangent": torch.randn(len(counts), T, D, generator=g),
        }
    # How many pictures each row is given, and for how many it keeps places.
    for wrong, given, kept, width in (
        ("other rows, the same total", (1, 2, 1), (2, 1, 1), 0),
        ("too few", (1, 1, 0), (1, 1, 1), 0),
        ("too many", (1, 2), (1, 1), 0),
        ("one where none is kept", (1, 1), (1, 0), 0),
        ("a row less", (1, 1), (1, 1, 0), 0),
        ("other width", (1, 0, 1), (1, 0, 1), 2),
    ):
        P, T, D = 3, 8, 4
        yield {
            "images": [torch.randn(count, P, D + width, generator=g) for count in given],
            "half": "",
            "wrong": wrong,
            "text": torch.randn(len(kept), T, D, generator=g),
            "places": lined_up(g, kept, P, T),
        }


def call_place_tokens(module, case):
    images = case["images"]  # one tensor [N, P, D] for each row
    if case["half"] == "images":
        images = [pictures.bfloat16() for pictures in images]
    if case["wrong"]:
        return refused(lambda: module.place_tokens(images, case["text"], case["places"]))

    def place(text, **given):
        rows = [given.get(f"pictures of row {row}", pictures) for row, pictures in enumerate(images)]
        return module.place_tokens(rows, text.bfloat16() if case["half"] == "text" else text, case["places"])

    inputs = {f"pictures of row {row}": pictures for row, pictures in enumerate(images) if len(pictures)}
    return with_grad(place, {**inputs, "text": case["text"]}, case["cotangent"])


def judge_place_tokens(case, answer, expected):
    if not case["wrong"]:
        return compare(answer, expected)
    if answer["raised"] == "ValueError":
        return []
    got = f"{answer['raised']} is raised" if answer["raised"] else describe(answer["output"])
    return [
        Problem(
            f"{case['wrong']} {'raises' if answer['raised'] else 'accepted'}",
            f"text {list(case['text'].shape)} keeps {case['places'].sum(1).tolist()} places, row by row, and the "
            f"rows' pictures are {shapes(case['images'])} ({case['wrong']}): that should raise a ValueError",
            "ValueError",
            got,
        )
    ]


def shapes(tensors):
    return [list(tensor.shape) for tensor in tensors]


def shows_place_tokens(case):
    return (
        f"place_tokens(images {shapes(case['images'])}, text {list(case['text'].shape)}, "
        f"places for {case['places'].sum(1).tolist()})"
    )


# vlm_labels

MARKS = ("<|pad|>", "<|user|>", "<|assistant|>", "<|end|>", "<|image|>")


def vlm_labels_cases(g):
    for B, padded in ((3, "left"), (4, "right"), (2, "right")):
        ids = (1 + torch.randperm(40, generator=g)).tolist()
        marks, words = dict(zip(MARKS, ids)), [0, *ids[len(MARKS) :]]
        picture = [marks["<|image|>"]] * 2

        def spoken(low, high, words=words):
            """From `low` to `high` random words."""
            return [words[between(g, 0, len(words) - 1)] for _ in range(between(g, low, high))]

        rows = []
        for row in range(B):
            talk = [] if row % 2 else spoken(1, 2) + [marks["<|end|>"]]  # cut off in front: an answer without its start
            for turn in range(between(g, 1, 3)):
                seen = picture if (row + turn) % 2 else []
                shown = picture if turn == 1 else []  # an answer may show a picture too
                talk += [marks["<|user|>"], *spoken(0, 1), *seen, *spoken(1, 3)]
                talk += [marks["<|assistant|>"], *spoken(1, 2), *shown, *spoken(0, 2), marks["<|end|>"]]
            rows.append(talk if row else talk[:-1])  # cut off behind: an answer without its end
        rows[-1] += [marks["<|user|>"], *picture, *spoken(1, 2)]  # a question without an answer
        # Two rows of short answers: of one word; with the word 0 and padding in it, empty, cut off after one word.
        rows.append([marks["<|assistant|>"], *spoken(1, 1), marks["<|end|>"], *spoken(1, 2)])
        rows.append(
            [
                marks["<|assistant|>"],
                0,
                marks["<|pad|>"],
                *spoken(1, 1),
                marks["<|end|>"],
                *spoken(1, 2),
                marks["<|assistant|>"],
                marks["<|end|>"],
                *spoken(1, 2),
                marks["<|assistant|>"],
                *spoken(1, 1),
            ]
        )
        longest = max(map(len, rows)) + 2
        filler = [[marks["<|pad|>"]] * (longest - len(row)) for row in rows]
        whole = [fill + row if padded == "left" else row + fill for fill, row in zip(filler, rows)]
        four = {name: token for name, token in marks.items() if name != "<|user|>"}
        yield {"input_ids": torch.tensor(whole), "special_tokens": four}
    yield {"input_ids": torch.tensor(whole[-2:-1]), "special_tokens": four}


def call_vlm_labels(module, case):
    return module.vlm_labels(case["input_ids"], case["special_tokens"])


def judge_vlm_labels(case, answer, expected):
    problems = compare(answer, expected)
    if (
        not problems
        or not isinstance(answer, torch.Tensor)
        or (answer.shape, answer.dtype) != (expected.shape, expected.dtype)
    ):
        return problems
    names = {IGNORE: "IGNORE", **{token: name for name, token in case["special_tokens"].items()}}
    row, t = (answer != expected).nonzero()[0].tolist()
    words = [names.get(token, str(token)) for token in case["input_ids"][row].tolist()]
    wanted, got = (names.get(label, str(label)) for label in (int(expected[row, t]), int(answer[row, t])))
    return [
        Problem(
            "labels values",
            f"row {row}, place {t}: the label of {words[t]} in ... {' '.join(words[max(0, t - 4) : t + 2])} ...",
            wanted,
            got,
        )
    ]


# vlm_forward


def lm_weights(g, words, V, D):
    """Of the stand-in language model and of a projection from V to D."""
    return {
        "llm": {
            "embed_tokens.weight": torch.randn(words, D, generator=g),
            **linear(g, "mix", D, D),
            "lm_head.weight": torch.randn(words, D, generator=g),
        },
        "projection": {name[2:]: value for name, value in linear(g, "p", V, D).items()},
    }


def vlm_forward_cases(g):
    for B, P, T, V, D, masked, labelled in (
        (2, 3, 5, 7, 4, True, True),
        (3, 4, 2, 5, 6, False, True),
        (3, 2, 4, 6, 5, True, False),
        (2, 5, 3, 4, 7, False, False),
        (3, 0, 4, 6, 5, True, True),
        (1, 3, 4, 5, 6, False, True),
    ):
        words = between(g, 11, 14)
        labels, mask = torch.randint(words, (B, T), generator=g), torch.ones(B, T, dtype=torch.int64)
        labels[:, T // 2] = IGNORE
        mask[0, :2] = 0  # padded on the left
        if masked:
            labels[mask == 0] = IGNORE
        yield {
            "input_ids": torch.randint(words, (B, T), generator=g),
            "words": words,
            "num_patches": P or 8,
            "features": torch.randn(B, P, V, generator=g) if P else None,
            "image_token_id": -1 if P else words,  # without a picture: an id for which the words keep no place
            "fits": True,
            "labels": labels if labelled else None,
            "attention_mask": mask if masked else None,
            **lm_weights(g, words, V, D),
            "embeds_cotangent": torch.randn(B, P + T, D, generator=g),
            "cotangent": torch.randn(B, P + T, words, generator=g),
        }
    # Pictures in their places, several in a row or none. The last two do not fit: no features, and pictures in other
    # rows than the places.
    for counts, P, T, V, D, given in (
        ((2, 0, 1), 2, 7, 5, 4, (2, 0, 1)),
        ((1, 0), 3, 5, 4, 6, (1, 0)),
        ((0, 0), 2, 4, 5, 3, (0, 0)),
        ((1, 1), 3, 6, 4, 5, None),
        ((1, 1), 2, 6, 4, 5, (2, 0)),
    ):
        words, B = between(g, 11, 14), len(counts)
        image = 0 if counts == (2, 0, 1) else words - 1
        ids = torch.randint(words - 1, (B, T), generator=g) + (image == 0)
        ids[lined_up(g, counts, P, T)] = image
        labels = ids.where(ids != image, IGNORE)
        mask = torch.ones(B, T, dtype=torch.int64)
        mask[B - 1, :1], labels[B - 1, :1] = 0, IGNORE
        yield {
            "input_ids": ids,
            "words": words,
            "num_patches": P,
            "image_token_id": image,
            "fits": given == counts,
            "features": None if given is None else [torch.randn(count, P, V, generator=g) for count in given],
            "labels": labels,
            "attention_mask": None if counts == (1, 0) else mask,
            **lm_weights(g, words, V, D),
            "embeds_cotangent": torch.randn(B, T, D, generator=g),
            "cotangent": torch.randn(B, T, words, generator=g),
        }


class AskedAgain(nn.Module):
    """An eye whose features are given already: nobody should ask it again."""

    def forward(self, *inputs):
        raise RuntimeError("the eye was asked, although features are what it has said already")


def together(module, case, llm):
    """The VLM of a case around the given kind of language model."""
    D, V = case["projection"]["weight"].shape
    return assembled(
        module,
        like(case, llm(case["words"], D), case["llm"]),
        like(case, nn.Linear(V, D), case["projection"]),
        case["num_patches"],
        vision=AskedAgain(),
        image_token_id=case["image_token_id"],
    )


def call_vlm_forward(module, case):
    ids, labels, mask = case["input_ids"], case["labels"], case["attention_mask"]
    vlm = together(module, case, StandInLM)
    if not case["fits"]:
        features = case["features"]
        return {
            **refused(lambda: vlm.embed(ids, features, mask)),
            "by forward": refused(lambda: vlm(ids, features, labels, mask)),
        }
    kept = {}  # what a call returns beside the tensor that is differentiated

    def given(features):
        """The features as the case has them: one tensor, None, or a list of the rows' tensors."""
        return list(features.values()) if isinstance(case["features"], list) else features["features"]

    def embed(**features):
        embeds, whole = vlm.embed(ids, given(features), mask)
        # A mask of bool or float serves as well.
        kept["mask"] = whole.long() if isinstance(whole, torch.Tensor) else whole
        return embeds

    def forward(**features):
        logits, kept["loss"] = vlm(ids, given(features), labels, mask)
        return logits if kept["loss"] is None else (logits, kept["loss"])

    listed = isinstance(case["features"], list)
    inputs = dict(enumerate(case["features"])) if listed else {0: case["features"]}
    inputs = {f"features {row}" if listed else "features": features for row, features in inputs.items()}
    embeds = with_grad(embed, inputs, case["embeds_cotangent"])["output"]
    cotangent = case["cotangent"] if labels is None else [case["cotangent"], None]
    result = with_grad(forward, inputs, cotangent, vlm)
    logits = result["output"] if kept["loss"] is None else result["output"][0]
    if listed and not any(map(len, case["features"])):  # nothing to learn from: no gradient, or one of zeros
        result = {**result, "grad": {}, "parameters": {}}
    return {
        "embeds": embeds,
        "attention_mask": kept["mask"],
        "logits": logits,
        "loss": kept["loss"],
        "grad": result["grad"],
        "parameters": result["parameters"],
        "in training mode": vlm.training,
    }


def judge_vlm_forward(case, answer, expected):
    if case["fits"]:
        mask = answer.get("attention_mask")
        if expected["attention_mask"] is None and isinstance(mask, torch.Tensor) and mask.eq(1).all():
            if list(mask.shape) == list(answer["embeds"].shape[:2]):  # hides nothing: as good as none
                answer = {**answer, "attention_mask": None}
        return compare(answer, expected)
    what = (
        "features is None"
        if case["features"] is None
        else (
            f"the rows keep {(case['input_ids'] == case['image_token_id']).sum(1).tolist()} places, row by row, and "
            f"are given {[features.shape[0] * features.shape[1] for features in case['features']]} picture tokens"
        )
    )
    for name, outcome in (("embed", answer), ("forward", answer["by forward"])):
        if outcome["raised"] != "ValueError":
            return [
                Problem(
                    f"{name} {'raises' if outcome['raised'] else 'accepted'}",
                    f"VLM.{name}: input_ids keep places for a picture, and {what}; that should raise a ValueError",
                    "ValueError",
                    f"{outcome['raised']} is raised" if outcome["raised"] else "no complaint",
                )
            ]
    return []


def shown_inputs(case):
    B, T = case["input_ids"].shape
    D, V = case["projection"]["weight"].shape
    features = case["features"]
    if features is not None:
        features = list(features.shape) if isinstance(features, torch.Tensor) else shapes(features)
    inputs = [f"input_ids [{B}, {T}]", f"features {features}"]
    inputs += [f"{name} [{B}, {T}]" for name in ("labels", "attention_mask") if case.get(name) is not None]
    image = f", image_token_id={case['image_token_id']}" if case["image_token_id"] >= 0 else ""
    return f"VLM(llm, {V}, {D}, {case['num_patches']}{image})", ", ".join(inputs)


def shows_vlm_forward(case):
    return "{}({})".format(*shown_inputs(case))


# vlm_generate


def vlm_generate_cases(g):
    for counts, P, T, V, D, padding, options in (
        ((1, 1, 1, 1, 1), 3, 6, 4, 9, 4, {"max_new_tokens": 6}),
        ((1, 2, 0, 1), 2, 5, 5, 10, 5, {"max_new_tokens": 8}),
        ((0, 0, 0, 0), 2, 5, 4, 11, 3, {"max_new_tokens": 5, "eos_token_id": None}),
        ((1, 1), 3, 4, 5, 8, 0, {"eos_token_id": None, "temperature": 0.7, "top_k": 3, "top_p": 0.9, "uniforms": None}),
    ):
        words, B = between(g, 23, 28), len(counts)
        ids = torch.randint(words - 1, (B, T), generator=g)
        image, mask = words - 1, torch.ones(B, T, dtype=torch.int64)
        inside = 0 in counts and any(counts)
        if inside:
            ids[lined_up(g, counts, P, T)] = image
            ids = torch.cat([torch.randint(words - 1, (B, padding), generator=g), ids], dim=1)
            mask = torch.ones_like(ids)
        for row in range(B - 1 if padding else 0):  # all rows but the last are padded on the left
            mask[row, : between(g, 1 + inside, padding)] = 0
        for name, drawn in (("eos_token_id", between(g, 0, words - 1)), ("uniforms", torch.rand(B, 20, generator=g))):
            if name in options:
                options = {**options, name: drawn}
        features = [torch.randn(count, P, V, generator=g) for count in counts]
        yield {
            "input_ids": ids,
            "words": words,
            "num_patches": P,
            "image_token_id": image if inside else -1,
            "features": features if inside else torch.cat(features) if any(counts) else None,
            "attention_mask": mask if padding else None,
            "options": options,
            "llm": {
                "embed_tokens.weight": torch.randn(words, D, generator=g),
                "mix.weight": 3 * torch.randn(D, D, generator=g),
                "mix.bias": torch.randn(D, generator=g),
                "lm_head.weight": torch.randn(words, D, generator=g),
            },
            "projection": {name[2:]: 2 * value for name, value in linear(g, "p", V, D).items()},
        }


class Counting(StandInLM):
    """A language model that counts the positions it reads, and keeps what it was called with."""

    read, options, hidden = 0, {}, ()

    def generate(self, input_ids=None, inputs_embeds=None, attention_mask=None, **options):
        self.options = options
        if inputs_embeds is not None:
            nothing = torch.ones(inputs_embeds.shape[:2], device=inputs_embeds.device)
            self.hidden = [(nothing if attention_mask is None else attention_mask) == 0]
        understood = {name: value for name, value in options.items() if name in ("max_new_tokens", "eos_token_id")}
        return super().generate(input_ids, inputs_embeds, attention_mask, **understood)

    def forward(self, input_ids=None, inputs_embeds=None, **more):
        self.read += (inputs_embeds[..., 0] if input_ids is None else input_ids).numel()
        return super().forward(input_ids, inputs_embeds, **more)


def call_vlm_generate(module, case):
    vlm = together(module, case, Counting)
    new = vlm.generate(case["input_ids"], case["features"], case["attention_mask"], **case["options"])
    return {
        "new ids": new,
        "positions read": vlm.llm.read,
        "options": vlm.llm.options,
        "hidden": list(vlm.llm.hidden),
        "in training mode": vlm.training,
    }


def judge_vlm_generate(case, answer, expected):
    problems = compare(answer["new ids"], expected["new ids"])
    for hidden, right in zip(answer["hidden"], expected["hidden"]):
        if hidden.shape == right.shape and not hidden.equal(right):
            problems.append(
                Problem(
                    "mask",
                    "the mask that reaches the language model does not hide what attention_mask hides",
                    f"{right.sum(1).tolist()} hidden positions, row by row",
                    str(hidden.sum(1).tolist()),
                )
            )
    if answer["in training mode"] != expected["in training mode"]:
        problems.append(
            Problem(
                "mode changed",
                "after generate the VLM is in another mode than before: whoever calls it in the "
                "middle of training goes on without dropout, or the other way round",
            )
        )
    for name, value in expected["options"].items():
        got = answer["options"].get(name)
        if answer["options"] and compare(got, value):
            problems.append(
                Problem(
                    f"option {name}",
                    f"the option {name} does not reach the language model's generate",
                    describe(value),
                    describe(got),
                )
            )
    if not problems and answer["positions read"] > expected["positions read"]:
        problems = [
            Problem(
                "read again",
                "the answer is right, and the language model has read more positions for it than "
                "it has to: picture and words once, then one for each new token",
                str(expected["positions read"]),
                str(answer["positions read"]),
            )
        ]
    return problems


def shows_vlm_generate(case):
    made, inputs = shown_inputs(case)
    options = ", ".join(
        f"{name}={list(value.shape) if name == 'uniforms' else value}" for name, value in case["options"].items()
    )
    return f"{made}.generate({inputs}, {options})"


# contrastive_loss


def contrastive_loss_cases(g):
    for B, D in ((3, 5), (6, 4)):
        yield {
            "image": 2 * torch.randn(B, D, generator=g),
            "text": 0.5 * torch.randn(B, D, generator=g),
            "logit_scale": 0.5 + 2 * torch.rand((), generator=g),
        }
    # The largest scale that CLIP allows, one beyond it, a small one; and one pair alone, which has no wrong caption.
    for B, D, scale in ((6, 3, 4.6), (5, 3, 5.0), (4, 3, -1.0), (1, 4, 1.0)):
        yield {
            "image": torch.randn(B, D, generator=g),
            "text": torch.randn(B, D, generator=g),
            "logit_scale": torch.tensor(scale),
        }


def call_contrastive_loss(module, case):
    return with_grad(module.contrastive_loss, {name: case[name] for name in ("image", "text", "logit_scale")})


CHECKS = [
    Check(
        id="patch_embed",
        asks="pictures [B, 3, H, W] become 1 + P tokens [B, 1 + P, D]: class token, then patches row by row, each with "
        "its position",
        call=call_patch_embed,
        cases=patch_embed_cases,
        shows=shows_patch_embed,
        points=2,
        hints=(
            "A convolution whose stride is its size cuts the patches. How does its output [B, D, H/p, "
            "W/p] become a row?",
            "tokens = [class, patch_1 ... patch_P] + position_embedding.weight",
            "patches = patch_embedding(pixel_values)        # [B, D, H/p, W/p]\n"
            "flatten the two last axes to P, swap them with D  # [B, P, D]\n"
            "expand class_embedding to [B, 1, D], put it in front\n"
            "add all 1 + P positions",
        ),
        why=(
            "A convolution whose stride is its size is a linear layer on each patch, and CLIP's "
            "checkpoint stores it as one. flatten(2) goes row by row because the last axis runs "
            "fastest. expand makes no copies of the class token. Positions are added to all, "
            "the class token included."
        ),
    ),
    Check(
        id="vit_block",
        asks="one pre-norm block: attention, then the MLP, each added to the stream",
        call=call_vit_block,
        cases=vit_block_cases,
        shows=lambda case: f"CLIPEncoderLayer(hidden_size={case['x'].shape[-1]})(x {list(case['x'].shape)})",
        hints=(
            "Two parts, two norms, two additions: what does each part read, and what is its result added to?",
            "x = x + attention(norm1(x));  x = x + mlp(norm2(x))",
            "x = x + self_attn(layer_norm1(x))\n"
            "return x + mlp(layer_norm2(x))   # the x that already has attention in it",
        ),
        why=(
            "It is step 2's block with LayerNorm for RMSNorm and no mask: a picture has no "
            "future. That the same block serves for pictures and text is why vision models "
            "could borrow everything else from language models."
        ),
    ),
    Check(
        id="clip_vit",
        asks="pictures [B, 3, H, W] become patch features [B, P, D] of the asked layer, without class token",
        call=call_clip_vit,
        cases=clip_vit_cases,
        shows=shows_clip_vit,
        points=3,
        needs=("patch_embed", "vit_block"),
        atol=2e-4,  # gradients through four blocks, summed over pictures and tokens in whatever order
        hints=(
            "With n blocks there are n + 1 states, 0 ... n. Which state is -1, which is -2, and how "
            "many blocks lead to it?",
            "blocks to run = layer if layer >= 0 else n + 1 + layer",
            "x = pre_layrnorm(embeddings(pixel_values))\n"
            "for the first `blocks` of encoder.layers: x = block(x)\n"
            "drop token 0; no post_layernorm",
        ),
        why=(
            "Running only the blocks that are needed costs nothing and saves one block. The "
            "layer before the last, because the last one serves the class token, which alone "
            "was trained to match captions; patches keep more of what is where one layer "
            "earlier. LLaVA made this choice, and most followed."
        ),
    ),
    Check(
        id="freeze",
        spared={"again": "what is frozen here is whole models: the check freezes each once and looks at what is left"},
        asks="a frozen module takes no gradients, stays in eval mode, and nothing in it moves",
        call=call_freeze,
        cases=freeze_cases,
        shows="freeze(eye), then VLM.train() and VLM.eval() with that eye",
        judge=judge_freeze,
        points=2,
        hints=(
            "Gradients move weights. What else in a module moves, or acts at random, while it is in training mode?",
            "for each p in module.parameters(): p.requires_grad = False;  module.eval();  "
            "VLM.train(m): eye in eval always",
            "freeze: requires_grad False for every parameter, module.eval(), return module\n"
            "VLM.train: super().train(mode), then self.vision.eval() if there is one, return self",
        ),
        why=(
            "Two things are frozen: the weights (no gradients, so no memory for them either) "
            "and the behaviour (eval mode). A training loop calls train() on the whole model at "
            "every turn, so the model overrides it: otherwise dropout, where an eye has it, "
            "would come back unnoticed."
        ),
    ),
    Check(
        id="projection",
        asks="patch features [B, P, vision_dim] become [B, P, text_dim], each patch by itself",
        call=call_projection,
        cases=projection_cases,
        shows=shows_projection,
        judge=judge_projection,
        points=3,
        hints=(
            "Which layer maps vision_dim numbers to text_dim numbers, and on which axis does it work?",
            "y = W x + b for each patch x;  or W2 gelu(W1 x + b1) + b2, as LLaVA-1.5 does",
            "__init__: self.linear = nn.Linear(vision_dim, text_dim)\nforward: return self.linear(features)",
        ),
        why=(
            "Two layers with a GELU between them are what LLaVA-1.5 uses; its first version was "
            "one matrix, which also works. Everything acts on the last axis, so patches stay "
            "independent, and any number of them will do. Q-Former and Perceiver resamplers mix "
            "patches, to have fewer of them."
        ),
    ),
    Check(
        id="token_concat",
        asks="picture tokens before text tokens: [B, P, D] and [B, T, D] become [B, P + T, D]",
        call=call_token_concat,
        cases=token_concat_cases,
        shows=lambda case: f"token_concat(image {list(case['image'].shape)}, text {list(case['text'].shape)})",
        judge=judge_token_concat,
        points=2,
        hints=(
            "Both have the axes batch, tokens, width. Along which one does a sentence grow?",
            "[img_1 ... img_P, text_1 ... text_T];  ValueError unless B and D agree",
            "compare shape[0] and shape[2] of both, raise ValueError if one differs\nreturn torch.cat([...], dim=1)",
        ),
        why=(
            "Nothing but torch.cat: the language model cannot tell an embedded word from a "
            "projected patch. The check before it matters more than it seems, since torch.cat "
            "does not look at what the rows mean. Pictures come first because attention is "
            "causal: words can look back at them."
        ),
    ),
    Check(
        id="place_tokens",
        asks="pictures go exactly where the text keeps places for them, row by row",
        call=call_place_tokens,
        cases=place_tokens_cases,
        shows=shows_place_tokens,
        judge=judge_place_tokens,
        points=3,
        hints=(
            "If row 0 has one picture too few and row 1 one too many, the total is right. Who would get whose?",
            "places in row b = N_b * P, for every b, or ValueError;  result[places] = all picture tokens, row by row",
            "tokens of row b = images[b] with its pictures one after the other, [N * P, D]\n"
            "raise ValueError unless len(tokens of row b) = places[b].sum() for every b, and the widths agree\n"
            "return a copy of text in which the places hold the tokens, rows in order\n"
            "       (masked_scatter does it in one call; so does a loop over rows)",
        ),
        why=(
            "masked_scatter fills the True places in reading order, so one call serves the whole batch, with "
            "gradients and without changing text. It takes what it is given from the front and asks no questions: "
            "compensating errors in two rows, or a wrong width, would shift every later picture into somebody "
            "else's sentence. Hence the comparison row by row, which Megatron-Core and transformers leave out: they "
            "compare totals."
        ),
    ),
    Check(
        id="vlm_labels",
        asks="labels [B, T]: the answers and their <|end|>, and IGNORE at all else",
        call=call_vlm_labels,
        cases=vlm_labels_cases,
        shows=lambda case: f"vlm_labels(input_ids {list(case['input_ids'].shape)}, special_tokens)",
        judge=judge_vlm_labels,
        points=2,
        hints=(
            "A token belongs to an answer or not: which of the markers before it tells you?",
            "labels[b, t] = input_ids[b, t] if the last marker before t is <|assistant|>, and the token is neither "
            "<|image|> nor <|pad|>;  else IGNORE",
            "labels = all IGNORE;  answering = False for every row\n"
            "for t = 0 ... T - 1:\n"
            "    where answering, and the token is neither image nor pad: labels[:, t] = input_ids[:, t]\n"
            "    answering becomes True after <|assistant|> and False after <|end|>",
        ),
        why=(
            "It is step 4's loss_mask on whole tensors. cummax carries the place of the last marker along the row, "
            "so no loop over the tokens is needed, and on a GPU nothing waits for the CPU. A picture token is not "
            "learned even inside an answer, because there is no word to predict there, and padding is not learned "
            "after an answer that was cut off. Nothing is shifted: the language model does that, once."
        ),
    ),
    Check(
        id="vlm_forward",
        asks="the language model reads picture and words; labels and mask grow with them",
        call=call_vlm_forward,
        cases=vlm_forward_cases,
        shows=shows_vlm_forward,
        judge=judge_vlm_forward,
        points=3,
        needs=("token_concat", "place_tokens"),
        hints=(
            "A picture in front makes P + T positions. labels and attention_mask say something about T of them: "
            "what is true of the P others, and on which side are they?",
            "embeds = [projection(features), embedding(ids)];  labels = [IGNORE x P, labels];  mask = "
            "[1 x P, mask];  of pictures in their places, nothing grows",
            "embed: text = llm.get_input_embeddings()(input_ids);  places = input_ids == image_token_id\n"
            "       no features: ValueError if there are places; else text and the mask as they are\n"
            "       a list: place_tokens(the projection of each, text, places), and the mask as it is\n"
            "       a tensor: pad the mask on the left by P ones, if there is one,\n"
            "                 and return token_concat(projection(features), text) and the mask\n"
            "forward: embed; pad the labels on the left by IGNORE until they are as long as embeds\n"
            "         return llm(inputs_embeds=..., labels=..., attention_mask=...)",
        ),
        why=(
            "A picture in front gets IGNORE as labels and 1 as mask; pictures in their places have both already. "
            "Everything else is the language model's own forward, so the loss is shifted once, where it always is. "
            "F.pad with (P, 0) pads on the left of the last axis. Places without features would be read as words "
            "without meaning, and nothing would complain: hence the error."
        ),
    ),
    Check(
        id="vlm_generate",
        asks="the answer to pictures and words: the picture enters once, then the cache remembers",
        call=call_vlm_generate,
        cases=vlm_generate_cases,
        shows=shows_vlm_generate,
        judge=judge_vlm_generate,
        points=2,
        needs=("vlm_forward",),
        hints=(
            "The language model can generate already, with a cache. What does it have to read instead of input_ids?",
            "embeds, mask = embed(input_ids, features, attention_mask);  new ids = llm.generate(embeds, mask, options)",
            "embeds, attention_mask = self.embed(...)\n"
            "return self.llm.generate(inputs_embeds=embeds, attention_mask=attention_mask, and the options)",
        ),
        why=(
            "Step 2's generate reads its prompt once and keeps keys and values, and does not ask whether the prompt "
            "was words. So the picture costs P positions once per answer, not once per token, the new tokens' "
            "positions go on after it, and the mask that embed has grown keeps a padded row's answer what it is "
            "alone."
        ),
    ),
    Check(
        id="contrastive_loss",
        asks="CLIP's loss: each picture finds its caption, each caption its picture",
        call=call_contrastive_loss,
        cases=contrastive_loss_cases,
        points=2,
        atol=3e-4,  # at a scale of 100 float32 has the gradients to 4 digits behind the point
        shows=lambda case: (
            f"contrastive_loss(image {list(case['image'].shape)}, text "
            f"{list(case['text'].shape)}, logit_scale = {case['logit_scale'].item():.3f})"
        ),
        hints=(
            "Row i of the table of similarities scores all captions for picture i. Which column is "
            "right, and what do the columns ask?",
            "S = exp(logit_scale) cos(image_i, text_j);  loss = (CE(S, 0..B-1) + CE(S^T, 0..B-1)) / 2",
            "normalise both to length 1\n"
            "logits = exp(logit_scale) * image @ text.T      # [B, B]\n"
            "own = 0, 1, ..., B - 1\n"
            "mean of cross_entropy(logits, own) and cross_entropy(logits.T, own)",
        ),
        why=(
            "One matrix of cosines serves both directions: its rows are pictures that look for "
            "captions, its columns the reverse. The temperature is learned as a logarithm, so "
            "it stays positive. With a batch of B there are B - 1 wrong captions for free, "
            "which is why CLIP used batches of 32,768."
        ),
    ),
]
