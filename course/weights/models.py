"""Real checkpoints in the learner's classes: CLIP's eye in step 6's CLIPVisionModel, a Llama in step 2's GPT.

The parameter names are the checkpoints' own, so no mapping table is needed, only a prefix. What the classes
do not compute (biases, scaled RoPE, another activation) is refused by name: with such a setting left out,
weights would load and the model would talk nonsense. Defaults of settings that a config.json leaves out are
transformers'.
"""

import re
from pathlib import Path
from types import ModuleType

import torch
from torch import nn

from course.weights.files import CONFIG, WeightsError, load_strictly, read_json, read_tensors

VISION_DEFAULTS = dict(
    image_size=224,
    patch_size=32,
    hidden_size=768,
    intermediate_size=3072,
    num_hidden_layers=12,
    num_attention_heads=12,
    num_channels=3,
    layer_norm_eps=1e-5,
)
LLAMA_DEFAULTS = dict(
    vocab_size=32000,
    hidden_size=4096,
    intermediate_size=11008,
    num_hidden_layers=32,
    num_attention_heads=32,
    num_key_value_heads=None,
    max_position_embeddings=2048,
    rms_norm_eps=1e-6,
    tie_word_embeddings=False,
)
# Of a whole CLIP, what does not belong to the eye; and buffers that old files hold beside the weights.
NOT_THE_EYE = re.compile(r"text_model\.|text_projection\.|visual_projection\.|logit_scale$|.*embeddings\.position_ids$")
BUFFERS = re.compile(r"model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq$")


def vision_config(folder: Path) -> dict:
    """The sizes of a CLIP vision tower, for step 6's CLIPVisionConfig, from a vision model's folder or a
    whole CLIP's.
    """
    config = read_json(Path(folder) / CONFIG)
    kind = config.get("model_type")
    if kind == "clip":
        config = config.get("vision_config_dict") or config.get("vision_config") or {}
    elif kind != "clip_vision_model":
        raise WeightsError(
            f"{folder} holds a {kind!r}. An eye is a CLIP vision model: model_type clip_vision_model or clip."
        )
    _require(folder, config, hidden_act=("quick_gelu",), quantization_config=(None,))
    return _sizes(folder, config, VISION_DEFAULTS)


def read_vision(module: ModuleType, folder: Path) -> nn.Module:
    """The eye in `folder` as a CLIPVisionModel of `module` (step 6's code, anybody's), in eval mode."""
    folder = Path(folder)
    eye = module.CLIPVisionModel(module.CLIPVisionConfig(**vision_config(folder)))
    tensors = {name: value for name, value in read_tensors(folder).items() if not NOT_THE_EYE.match(name)}
    tensors = {name.removeprefix("vision_model."): value for name, value in tensors.items()}
    return load_strictly(eye, _as_float32(tensors), folder).eval()


def llm_config(folder: Path) -> dict:
    """The sizes of a Llama, for step 2's GPTConfig."""
    config = read_json(Path(folder) / CONFIG)
    if config.get("model_type") != "llama":
        raise WeightsError(
            f"{folder} holds a {config.get('model_type')!r}. The GPT of step 2 is a Llama: model_type llama."
        )
    rope = {**(config.get("rope_scaling") or {}), **(config.get("rope_parameters") or {})}
    rope = {"rope_theta": config.get("rope_theta", 10000.0), **rope}
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind != "default":
        raise WeightsError(f"{folder}: RoPE is scaled ({kind}), and the GPT of step 2 turns by plain positions.")
    _require(
        folder,
        {**config, "partial_rotary_factor": rope.get("partial_rotary_factor")},
        hidden_act=("silu",),
        attention_bias=(False,),
        mlp_bias=(False,),
        quantization_config=(None,),
        rope_interleaved=(False,),
        partial_rotary_factor=(None, 1.0),
    )
    sizes = _sizes(folder, config, LLAMA_DEFAULTS)
    sizes["num_key_value_heads"] = sizes["num_key_value_heads"] or sizes["num_attention_heads"]
    _require(folder, config, head_dim=(None, sizes["hidden_size"] // sizes["num_attention_heads"]))
    return {**sizes, "rope_theta": float(rope["rope_theta"])}


def read_llm(module: ModuleType, folder: Path) -> nn.Module:
    """The Llama in `folder` as a GPT of `module` (step 2's code, anybody's), in eval mode."""
    folder, head, embedding = Path(folder), "lm_head.weight", "model.embed_tokens.weight"
    try:
        gpt = module.GPT(module.GPTConfig(**llm_config(folder)))
    except ValueError as error:
        raise WeightsError(f"{folder / CONFIG}: {error}.") from error
    tensors = {name: value for name, value in read_tensors(folder).items() if not BUFFERS.match(name)}
    if gpt.config.tie_word_embeddings and embedding in tensors:
        if not torch.equal(tensors.setdefault(head, tensors[embedding]), tensors[embedding]):
            raise WeightsError(f"{folder} says tie_word_embeddings, but {head} and {embedding} differ.")
    return load_strictly(gpt, _as_float32(tensors), folder).eval()


def _as_float32(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value.float() for name, value in tensors.items()}


def _sizes(folder, config: dict, defaults: dict) -> dict:
    sizes = {name: config.get(name, default) for name, default in defaults.items()}
    for name, value in sizes.items():
        wanted = type(defaults[name]) if defaults[name] is not None else int
        if value is not defaults[name] and not (isinstance(value, (int, wanted)) and (wanted is bool or value > 0)):
            raise WeightsError(f"{Path(folder) / CONFIG}: {name} is {value!r}, which is no size.")
    return sizes


def _require(folder, config: dict, **allowed: tuple) -> None:
    """Raise WeightsError if a setting is there and has a value that the course's classes do not compute."""
    problems = [
        f"{name} is {config[name]!r}, and here it is always {values[-1]!r}"
        for name, values in allowed.items()
        if config.get(name) is not None and config[name] not in values
    ]
    if problems:
        raise WeightsError(f"{folder} is of a kind that the course's classes do not compute: {'; '.join(problems)}.")
