"""A vision-language model: a frozen CLIP-ViT, a projection, and a language model that reads the picture as tokens.

Follows CLIP (Radford et al. 2021) for the eye and LLaVA (Liu et al. 2023) for the way into the language model.
The vision tower's state dict has the names of Hugging Face's `CLIPVisionModel`, so real CLIP weights load with
`strict=True`. Left out: dropout, pictures of other sizes than the eye was trained on, fewer tokens than patches.

The language model is handed in. It needs `get_input_embeddings()`, a call with `inputs_embeds`, `labels` and
`attention_mask` that returns (logits, loss), and `generate()`: the GPT of step 2 has them all.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

IGNORE = -100  # label of positions that the loss leaves out


@dataclass
class CLIPVisionConfig:
    """Sizes of a vision tower, named as in Hugging Face's config.json. The defaults are the course's own eye."""

    image_size: int = 64
    patch_size: int = 16
    hidden_size: int = 128
    intermediate_size: int = 512
    num_hidden_layers: int = 5
    num_attention_heads: int = 4
    num_channels: int = 3
    layer_norm_eps: float = 1e-5

    @property
    def num_patches(self) -> int:
        return (self.image_size // self.patch_size) ** 2


class CLIPVisionEmbeddings(nn.Module):
    """A picture becomes a row of vectors: one per patch, and a class token in front."""

    def __init__(self, config: CLIPVisionConfig):
        super().__init__()
        self.class_embedding = nn.Parameter(torch.randn(config.hidden_size) * 0.02)
        self.patch_embedding = nn.Conv2d(
            config.num_channels, config.hidden_size, config.patch_size, stride=config.patch_size, bias=False
        )
        self.position_embedding = nn.Embedding(config.num_patches + 1, config.hidden_size)

    # TODO patch_embed
    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Cut pictures [B, 3, H, W] into P patches and return [B, 1 + P, D].

        The patches come row by row, the class token comes first, and every one of the 1 + P tokens, the class
        token too, gets its learned position added.
        """
        ### BEGIN SOLUTION
        patches = self.patch_embedding(pixel_values)  # [B, D, H/p, W/p]
        patches = patches.flatten(2).transpose(1, 2)  # [B, P, D]
        cls = self.class_embedding.expand(len(patches), 1, -1)  # [B, 1, D]
        return torch.cat([cls, patches], dim=1) + self.position_embedding.weight
        ### END SOLUTION


def quick_gelu(x: torch.Tensor) -> torch.Tensor:
    """x * sigmoid(1.702 x): CLIP was trained with this approximation of GELU, so its weights need it."""
    return x * torch.sigmoid(1.702 * x)


class CLIPAttention(nn.Module):
    """Multi-head attention in which every token sees every token: a picture has no future."""

    def __init__(self, config: CLIPVisionConfig):
        super().__init__()
        self.num_heads = config.num_attention_heads
        self.q_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.k_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.v_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.out_proj = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, T, D] -> [B, T, D]"""
        q, k, v = (
            p(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for p in (self.q_proj, self.k_proj, self.v_proj)
        )
        y = F.scaled_dot_product_attention(q, k, v)  # [B, H, T, D/H]
        return self.out_proj(y.transpose(1, 2).flatten(2))


class CLIPMLP(nn.Module):
    """Two linear layers with quick_gelu between them, applied to each token by itself."""

    def __init__(self, config: CLIPVisionConfig):
        super().__init__()
        self.fc1 = nn.Linear(config.hidden_size, config.intermediate_size)
        self.fc2 = nn.Linear(config.intermediate_size, config.hidden_size)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, T, D] -> [B, T, D]"""
        return self.fc2(quick_gelu(self.fc1(x)))


class CLIPEncoderLayer(nn.Module):
    """One pre-norm transformer block."""

    def __init__(self, config: CLIPVisionConfig):
        super().__init__()
        self.self_attn = CLIPAttention(config)
        self.layer_norm1 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.mlp = CLIPMLP(config)
        self.layer_norm2 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    # TODO vit_block
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, T, D] -> [B, T, D]: attention, then the MLP, each on normalised input and each added to what it read."""
        ### BEGIN SOLUTION
        x = x + self.self_attn(self.layer_norm1(x))
        return x + self.mlp(self.layer_norm2(x))
        ### END SOLUTION


class CLIPEncoder(nn.Module):
    """The stack of blocks (a module of its own only because Hugging Face's parameter names say `encoder.layers`)."""

    def __init__(self, config: CLIPVisionConfig):
        super().__init__()
        self.layers = nn.ModuleList(CLIPEncoderLayer(config) for _ in range(config.num_hidden_layers))


class CLIPVisionModel(nn.Module):
    """CLIP's vision transformer. `forward` gives patch features for a VLM, `pooled` the one vector CLIP was trained
    on."""

    def __init__(self, config: CLIPVisionConfig):
        super().__init__()
        self.config = config
        self.embeddings = CLIPVisionEmbeddings(config)
        self.pre_layrnorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)  # CLIP's own spelling
        self.encoder = CLIPEncoder(config)
        self.post_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    # TODO clip_vit
    def forward(self, pixel_values: torch.Tensor, layer: int = -2) -> torch.Tensor:
        """Turn pictures [B, 3, H, W] into patch features [B, P, D], as LLaVA uses them.

        `layer` counts the states between the blocks: 0 is the state after pre_layrnorm, i the state after block
        i, -1 the last one and -2 the one before it (and then the last block need not run). The class token is
        dropped; post_layernorm belongs to the pooled vector and is not applied.
        """
        ### BEGIN SOLUTION
        x = self.pre_layrnorm(self.embeddings(pixel_values))  # [B, 1 + P, D]
        blocks = len(self.encoder.layers) + 1 + layer if layer < 0 else layer
        for block in self.encoder.layers[:blocks]:
            x = block(x)
        return x[:, 1:]
        ### END SOLUTION

    def pooled(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """One vector per picture [B, D]: the normalised class token after the last block."""
        x = self.pre_layrnorm(self.embeddings(pixel_values))
        for block in self.encoder.layers:
            x = block(x)
        return self.post_layernorm(x[:, 0])


# TODO contrastive_loss
def contrastive_loss(image: torch.Tensor, text: torch.Tensor, logit_scale: torch.Tensor) -> torch.Tensor:
    """CLIP's symmetric loss for pictures [B, D] and captions [B, D], where picture i belongs to caption i.

    Both are normalised to length 1; their cosines times exp(logit_scale) are the logits. Each picture has to find
    its caption among B, each caption its picture, and the loss (a scalar) is the mean of both cross-entropies.
    """
    ### BEGIN SOLUTION
    logits = logit_scale.exp() * F.normalize(image, dim=-1) @ F.normalize(text, dim=-1).T  # [B, B]
    own = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2
    ### END SOLUTION


# TODO freeze
def freeze(module: nn.Module) -> nn.Module:
    """Make a module unlearnable, in place, and return it: no parameter takes gradients, and it is in eval mode."""
    ### BEGIN SOLUTION
    for parameter in module.parameters():
        parameter.requires_grad = False
    return module.eval()
    ### END SOLUTION


class Projection(nn.Module):
    """Translates what the eye says into the language of the text embeddings, each patch by itself."""

    # TODO projection
    def __init__(self, vision_dim: int, text_dim: int):
        """Build the layers that take a patch feature of size vision_dim to a vector of size text_dim."""
        super().__init__()
        ### BEGIN SOLUTION
        self.linear_1 = nn.Linear(vision_dim, text_dim)
        self.linear_2 = nn.Linear(text_dim, text_dim)
        ### END SOLUTION

    # TODO projection
    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Project patch features [B, P, vision_dim] to [B, P, text_dim]."""
        ### BEGIN SOLUTION
        return self.linear_2(F.gelu(self.linear_1(features)))
        ### END SOLUTION


# TODO token_concat
def token_concat(image: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
    """Put the picture before the words: [B, P, D] and [B, T, D] become [B, P + T, D].

    The order is [img_1 ... img_P, text_1 ... text_T]. Attention is causal, so every word can look back at the
    picture. Raises ValueError if batch or width of the two differ: broadcasting would show everybody one picture.
    """
    ### BEGIN SOLUTION
    if image.shape[0] != text.shape[0] or image.shape[2] != text.shape[2]:
        raise ValueError(f"picture {list(image.shape)} and text {list(text.shape)} differ in batch or width")
    return torch.cat([image, text], dim=1)
    ### END SOLUTION


# TODO place_tokens
def place_tokens(images: Sequence[torch.Tensor], text: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Put pictures where the text keeps places for them: text [B, T, D] with the vectors at the places replaced.

    images has one entry for each row: images[b] is [N, P, D], the N pictures of row b in the order in which its text
    mentions them; a row without pictures has N = 0. places [B, T] is True wherever `<|image|>` stands: N * P times in
    row b, once for each picture token. The result has the dtype of text (under autocast that of images may be another),
    and text itself stays as it is. Raises ValueError if a row has no entry, if widths differ, or if any row has more or
    fewer places than picture tokens: with the right total, one row's picture would slip into another's sentence.
    """
    ### BEGIN SOLUTION
    tokens = [pictures.flatten(0, 1) for pictures in images]  # row b: [N * P, D]
    kept = places.sum(1).tolist()
    if [len(row) for row in tokens] != kept or any(row.shape[1] != text.shape[2] for row in tokens):
        raise ValueError(f"the rows keep {kept} places for pictures {[list(pictures.shape) for pictures in images]}")
    return text.masked_scatter(places[..., None], torch.cat(tokens).to(text))
    ### END SOLUTION


# TODO vlm_labels
def vlm_labels(input_ids: torch.Tensor, special_tokens: Mapping[str, int]) -> torch.Tensor:
    """Labels [B, T] for conversations input_ids [B, T]: the id where it is to be learned, IGNORE everywhere else.

    Learned are the answers: what stands after `<|assistant|>`, up to the next `<|end|>` and with it. `<|image|>` and
    `<|pad|>` are not, wherever they stand: the one is a picture token's place, the other nothing at all. A row may have
    been cut off at either end, so that an answer lacks its `<|assistant|>` (and is not learned) or its `<|end|>`.
    labels[t] belongs to input_ids[t]; the language model shifts them, once, inside. special_tokens gives the four ids.
    """
    ### BEGIN SOLUTION
    names = ("assistant", "end", "image", "pad")
    token = {name: input_ids == special_tokens[f"<|{name}|>"] for name in names}  # [B, T]
    place = torch.arange(1, input_ids.shape[1] + 1, device=input_ids.device)
    begun = (place * token["assistant"]).cummax(dim=1).values  # where the last answer up to here began,
    ended = (place * token["end"]).cummax(dim=1).values  # and where the last one ended
    answer = F.pad(begun > ended, (1, -1))  # what comes after <|assistant|>, and <|end|> itself: a step to the right
    return input_ids.where(answer & ~token["image"] & ~token["pad"], IGNORE)
    ### END SOLUTION


class VLM(nn.Module):
    """A language model that sees: eye -> projection -> [picture, words] -> language model.

    llm: the language model. vision: a CLIPVisionModel, or None if only ready-made features are passed in.
    vision_dim, text_dim: widths of eye and language model. num_patches: picture tokens a picture.
    image_token_id: what stands in input_ids in the place of each picture token (-1: nothing does).

    Its methods take what the eye said as `features`: a tensor [B, P, vision_dim] puts one picture in front of each
    row; a list of B tensors [N, P, vision_dim] puts the N pictures of each row where its `<|image|>` stand; None is
    for rows without pictures.
    """

    def __init__(
        self,
        llm: nn.Module,
        vision_dim: int,
        text_dim: int,
        num_patches: int,
        vision: nn.Module | None = None,
        image_token_id: int = -1,
    ):
        super().__init__()
        self.num_patches, self.image_token_id = num_patches, image_token_id
        self.vision = freeze(vision) if vision is not None else None
        self.projection = Projection(vision_dim, text_dim)
        self.llm = llm

    # TODO freeze
    def train(self, mode: bool = True) -> "VLM":
        """Switch to training mode (or out of it) and return the VLM, but leave the eye, if there is one, in eval
        mode."""
        ### BEGIN SOLUTION
        super().train(mode)
        if self.vision is not None:
            self.vision.eval()
        return self
        ### END SOLUTION

    def see(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Patch features [B, P, vision_dim] of pictures [B, 3, H, W]. They cannot change, so they may be cached."""
        with torch.no_grad():
            return self.vision(pixel_values)

    # TODO vlm_forward
    def embed(
        self,
        input_ids: torch.Tensor,
        features: torch.Tensor | Sequence[torch.Tensor] | None = None,
        attention_mask: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Embeddings of pictures and words, and the attention mask that fits them (None if none was given).

        input_ids [B, T] are the words. A picture in front makes the row longer, [B, P + T, D], and attention_mask
        [B, T] with it: of the picture nothing is hidden (1). Pictures in their places leave both at T, and so do words
        alone. Raises ValueError where there are places and no features.
        """
        ### BEGIN SOLUTION
        text = self.llm.get_input_embeddings()(input_ids)  # [B, T, D]
        places = input_ids == self.image_token_id  # [B, T]
        if features is None:
            if places.any():
                raise ValueError("input_ids keep places for a picture, and there are no features")
            return text, attention_mask
        if not isinstance(features, torch.Tensor):
            return place_tokens([self.projection(one) for one in features], text, places), attention_mask
        if attention_mask is not None:
            attention_mask = F.pad(attention_mask, (features.shape[1], 0), value=1)
        return token_concat(self.projection(features), text), attention_mask
        ### END SOLUTION

    # TODO vlm_forward
    def forward(
        self,
        input_ids: torch.Tensor,
        features: torch.Tensor | Sequence[torch.Tensor] | None = None,
        labels: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Read pictures and words as `embed` puts them together; return (logits, loss or None).

        The logits are [B, P + T, V] with a picture in front and [B, T, V] otherwise. labels [B, T] belong to the words;
        the language model wants them for all its positions, and at a picture in front there is nothing to predict
        (IGNORE).
        """
        ### BEGIN SOLUTION
        embeds, attention_mask = self.embed(input_ids, features, attention_mask)
        if labels is not None:
            labels = F.pad(labels, (embeds.shape[1] - labels.shape[1], 0), value=IGNORE)
        return self.llm(inputs_embeds=embeds, labels=labels, attention_mask=attention_mask)
        ### END SOLUTION

    # TODO vlm_generate
    @torch.no_grad()
    def generate(
        self,
        input_ids: torch.Tensor,
        features: torch.Tensor | Sequence[torch.Tensor] | None = None,
        attention_mask: torch.Tensor | None = None,
        **options,
    ) -> torch.Tensor:
        """Answer: the new ids [B, N]. `options` are those of the language model's generate, which takes the row as
        inputs_embeds and the mask as attention_mask.

        The picture enters once: the language model reads pictures and words, and from then on its cache remembers them,
        so each new token costs one position. Rows padded on the left (0 in attention_mask) say what they say alone.
        """
        ### BEGIN SOLUTION
        embeds, attention_mask = self.embed(input_ids, features, attention_mask)
        return self.llm.generate(inputs_embeds=embeds, attention_mask=attention_mask, **options)
        ### END SOLUTION
