"""Known wrong answers of step 6: each a patch of the solution, and what to say to whoever made it."""

from course.checking import Mistake

# Lines of the solution that several mistakes change.
CLASS = "        return torch.cat([cls, patches], dim=1) + self.position_embedding.weight"
ROW = "patches = patches.flatten(2).transpose(1, 2)  # [B, P, D]"
ATTEND = "        x = x + self.self_attn(self.layer_norm1(x))\n"
THINK = "        return x + self.mlp(self.layer_norm2(x))\n"
ENTER = "x = self.pre_layrnorm(self.embeddings(pixel_values))  # [B, 1 + P, D]"
COUNT = "blocks = len(self.encoder.layers) + 1 + layer if layer < 0 else layer"
LEAVE = "        return x[:, 1:]\n"
STILL = "    for parameter in module.parameters():\n        parameter.requires_grad = False\n    return module.eval()\n"
TRAIN = (
    "        super().train(mode)\n        if self.vision is not None:\n            self.vision.eval()\n"
    "        return self\n"
)
ONE = "self.linear_1 = nn.Linear(vision_dim, text_dim)"
PROJECT = "return self.linear_2(F.gelu(self.linear_1(features)))"
SAME = (
    "    if image.shape[0] != text.shape[0] or image.shape[2] != text.shape[2]:\n"
    '        raise ValueError(f"picture {list(image.shape)} and text {list(text.shape)} '
    'differ in batch or width")\n'
)
JOIN = "return torch.cat([image, text], dim=1)"
PLACES = "    if [len(row) for row in tokens] != kept or any(row.shape[1] != text.shape[2] for row in tokens):\n"
TOKENS = "tokens = [pictures.flatten(0, 1) for pictures in images]  # row b: [N * P, D]"
SCATTER = "return text.masked_scatter(places[..., None], torch.cat(tokens).to(text))"
BEGUN = 'begun = (place * token["assistant"]).cummax(dim=1).values'
ENDED = 'ended = (place * token["end"]).cummax(dim=1).values'
ANSWER = "answer = F.pad(begun > ended, (1, -1))"
LEARNED = 'return input_ids.where(answer & ~token["image"] & ~token["pad"], IGNORE)'
LABELS = "labels = F.pad(labels, (embeds.shape[1] - labels.shape[1], 0), value=IGNORE)"
MASK = "attention_mask = F.pad(attention_mask, (features.shape[1], 0), value=1)"
INSIDE = (
    "        if not isinstance(features, torch.Tensor):\n"
    "            return place_tokens([self.projection(one) for one in features], text, places), attention_mask\n"
)
EMBEDS = "        return token_concat(self.projection(features), text), attention_mask\n"
ALONE = (
    "        if features is None:\n            if places.any():\n"
    '                raise ValueError("input_ids keep places for a picture, and there are no features")\n'
    "            return text, attention_mask\n"
)
GENERATE = (
    "        embeds, attention_mask = self.embed(input_ids, features, attention_mask)\n"
    "        return self.llm.generate(inputs_embeds=embeds, attention_mask=attention_mask, **options)\n"
)
READ = "return self.llm(inputs_embeds=embeds, labels=labels, attention_mask=attention_mask)"
LOGITS = "logits = logit_scale.exp() * F.normalize(image, dim=-1) @ F.normalize(text, dim=-1).T  # [B, B]"
OWN = "own = torch.arange(len(logits), device=logits.device)"
BOTH = "return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2"

MISTAKES = {
    "patch_embed": [
        Mistake(
            "no class token",
            CLASS,
            "        return patches + self.position_embedding.weight[1:]",
            "The class token is missing. CLIP was trained with one token more than there are "
            "patches, and every patch has always seen it.",
        ),
        Mistake(
            "no class token, all positions",
            CLASS,
            "        return patches + self.position_embedding.weight",
            "There are P patches and 1 + P positions: the class token is missing. It comes first, and "
            "has a position "
            "of its own.",
        ),
        Mistake(
            "class token last",
            CLASS,
            "        return torch.cat([patches, cls], dim=1) + self.position_embedding.weight",
            "The class token stands at the end. The positions were learned with it in front, so each "
            "patch now gets its neighbour's position.",
        ),
        Mistake(
            "no position for the class token",
            CLASS,
            "        return torch.cat([cls, patches + self.position_embedding.weight[1:]], dim=1)",
            "Only the patches get a position. In CLIP the class token has one too: row 0 of the table.",
        ),
        Mistake(
            "positions shifted",
            CLASS,
            "        return torch.cat([cls, patches + self.position_embedding.weight[:-1]], dim=1)",
            "The patches get the rows 0 ... P - 1 of the position table. Row 0 belongs to the class token.",
        ),
        Mistake(
            "no positions",
            CLASS,
            "        return torch.cat([cls, patches], dim=1)",
            "No position is added. Attention does not know order: without positions the picture is a bag of patches.",
        ),
        Mistake(
            "column by column",
            ROW,
            "patches = patches.transpose(2, 3).flatten(2).transpose(1, 2)",
            "The patches come column by column. The positions were learned row by row, as one reads.",
        ),
        Mistake(
            "reshaped",
            ROW,
            "patches = patches.reshape(len(patches), -1, patches.shape[1])",
            "The shape is right, the numbers are shuffled: reshape keeps the order in memory, in "
            "which a whole channel comes before the next. Axes are swapped by transpose or permute.",
        ),
        Mistake(
            "class token without batch",
            "cls = self.class_embedding.expand(len(patches), 1, -1)  # [B, 1, D]",
            "cls = self.class_embedding.expand(1, 1, -1)",
            "There is one class token for the whole batch. Every picture needs its own copy: expand it to [B, 1, D].",
        ),
        Mistake(
            "class token without axes",
            "        cls = self.class_embedding.expand(len(patches), 1, -1)  # [B, 1, D]\n" + CLASS,
            "        return torch.cat([self.class_embedding, patches], dim=1) + self.position_embedding.weight",
            "class_embedding is one vector, [D], and the patches are [B, P, D]: expand it to [B, 1, D] first.",
        ),
        Mistake(
            "table for its numbers",
            CLASS,
            "        return torch.cat([cls, patches], dim=1) + self.position_embedding",
            "position_embedding is a module, nn.Embedding. Its table, a tensor [1 + P, D], is "
            "position_embedding.weight.",
        ),
    ],
    "vit_block": [
        Mistake(
            "post-norm",
            ATTEND + THINK,
            "        x = self.layer_norm1(x + self.self_attn(x))\n        return self.layer_norm2(x + self.mlp(x))\n",
            "This normalises after the addition, as the first transformers did. CLIP is pre-norm: "
            "each part reads a normalised copy, and the stream itself is never normalised.",
        ),
        Mistake(
            "no residual",
            ATTEND + THINK,
            "        x = self.self_attn(self.layer_norm1(x))\n        return self.mlp(self.layer_norm2(x))\n",
            "The results replace the stream instead of being added to it. Without the residual paths "
            "what a patch looked like is gone after one block.",
        ),
        Mistake(
            "no residual around the MLP",
            THINK,
            "        return self.mlp(self.layer_norm2(x))\n",
            "The MLP's result replaces the stream. It too is added to what it read.",
        ),
        Mistake(
            "one norm shared",
            THINK,
            "        return x + self.mlp(self.layer_norm1(x))\n",
            "Both parts read through layer_norm1. Each has a norm of its own, with its own weights.",
        ),
        Mistake(
            "no norms",
            ATTEND + THINK,
            "        x = x + self.self_attn(x)\n        return x + self.mlp(x)\n",
            "Neither part reads a normalised input: layer_norm1 and layer_norm2 are not used.",
        ),
        Mistake(
            "GELU for quick_gelu",
            THINK,
            "        return x + self.mlp.fc2(F.gelu(self.mlp.fc1(self.layer_norm2(x))))\n",
            "This is the exact GELU. CLIP was trained with an approximation, x * sigmoid(1.702 x), and its weights "
            "expect that one: after twelve blocks the small differences have added up. self.mlp has it.",
        ),
        Mistake(
            "norm in the residual",
            ATTEND,
            "        x = self.layer_norm1(x)\n        x = x + self.self_attn(x)\n",
            "The normalised copy has replaced x, so the residual path carries the copy too. Add to the x that came in.",
        ),
        Mistake(
            "norms in both residuals",
            ATTEND + THINK,
            "        x = self.layer_norm1(x)\n        x = x + self.self_attn(x)\n"
            "        x = self.layer_norm2(x)\n        return x + self.mlp(x)\n",
            "Both results are added to the normalised copy. The stream goes through the block "
            "untouched: each part reads a normalised copy of it, and adds its result to the stream "
            "itself.",
        ),
        Mistake(
            "attention's result forgotten",
            ATTEND + THINK,
            "        y = x + self.self_attn(self.layer_norm1(x))\n        return x + self.mlp(self.layer_norm2(y))\n",
            "The MLP's result is added to the block's input, so what attention has added is lost. It is "
            "added to what it read.",
        ),
        Mistake(
            "MLP first",
            ATTEND + THINK,
            "        x = x + self.mlp(self.layer_norm1(x))\n        return x + self.self_attn(self.layer_norm2(x))\n",
            "The MLP comes first here. In a transformer's block the tokens first exchange what they "
            "know (attention), and then each works on it by itself.",
        ),
        Mistake(
            "added in place",
            ATTEND + THINK,
            "        x += self.self_attn(self.layer_norm1(x))\n        x += self.mlp(self.layer_norm2(x))\n"
            "        return x\n",
            "`x += ...` writes into the tensor that came in, and autograd needs the old numbers to "
            "compute gradients. `x = x + ...` makes a new one.",
        ),
        Mistake(
            "side by side",
            ATTEND + THINK,
            "        return x + self.self_attn(self.layer_norm1(x)) + self.mlp(self.layer_norm2(x))\n",
            "Attention and MLP both read the block's input. The MLP comes second, and reads what attention has added.",
        ),
    ],
    "clip_vit": [
        Mistake(
            "class token kept",
            LEAVE,
            "        return x\n",
            "The class token is still among the patches. It sums up the whole picture for CLIP's own "
            "training; LLaVA drops it, and P counts patches only.",
        ),
        Mistake(
            "last token dropped",
            LEAVE,
            "        return x[:, :-1]\n",
            "You drop the last patch and keep the class token, which stands at place 0.",
        ),
        Mistake(
            "only the class token",
            LEAVE,
            "        return x[:, 0]\n",
            "This is the class token alone: one vector a picture. The language model wants all the patches.",
        ),
        Mistake(
            "last layer for -2",
            "layer: int = -2) -> torch.Tensor:",
            "layer: int = -1) -> torch.Tensor:",
            "The default is the last layer. LLaVA takes the one before it (-2): the last block has "
            "learned to serve the one class vector, and the layer before still keeps what is where.",
        ),
        Mistake(
            "all blocks",
            "for block in self.encoder.layers[:blocks]:",
            "for block in self.encoder.layers:",
            "All blocks are run, whatever `layer` says.",
        ),
        Mistake(
            "one block too few",
            COUNT,
            "blocks = len(self.encoder.layers) + layer if layer < 0 else layer",
            "You are one block short: n blocks have n + 1 states (the one before the first block "
            "counts), so -1 is the state after all n.",
        ),
        Mistake(
            "sliced by layer + 1",
            "for block in self.encoder.layers[:blocks]:",
            "for block in self.encoder.layers[: layer + 1]:",
            "layers[: layer + 1] is right for -2 alone: for -1 it runs no block at all, and a positive "
            "layer gets one block too many. Count how many blocks to run first, from the n + 1 states.",
        ),
        Mistake(
            "state 0 forgotten",
            COUNT
            + """
        for block in self.encoder.layers[:blocks]:
            x = block(x)
"""
            + LEAVE,
            """states = []
        for block in self.encoder.layers:
            x = block(x)
            states.append(x)
        return states[layer][:, 1:]
""",
            "You collect what comes after each block: n states. There are n + 1, for the one before the "
            "first block is state 0.",
        ),
        Mistake(
            "always -2",
            "for block in self.encoder.layers[:blocks]:",
            "for block in self.encoder.layers[:-1]:",
            "This is the state of layer -2, whatever `layer` says. -2 is only its default.",
        ),
        Mistake(
            "encoder for its layers",
            "for block in self.encoder.layers[:blocks]:",
            "for block in self.encoder:",
            "The blocks are in self.encoder.layers; encoder itself is only a module that holds this list.",
        ),
        Mistake(
            "state 0 is the first block",
            COUNT,
            "blocks = len(self.encoder.layers) + 1 + layer if layer < 0 else layer + 1",
            "Positive layers are counted from the first block's output. State 0 is the one before any block.",
        ),
        Mistake(
            "positive layer ignored",
            COUNT,
            "blocks = len(self.encoder.layers) + 1 - abs(layer)",
            "A positive `layer` is counted from the end here. 0, 1, 2, ... count from the front.",
        ),
        Mistake(
            "sliced by layer",
            "for block in self.encoder.layers[:blocks]:",
            "for block in self.encoder.layers[:layer]:",
            "layers[:layer] runs n - 2 blocks for -2, one too few, and none but the right number for "
            "positive layers: count states, of which there are n + 1.",
        ),
        Mistake(
            "post_layernorm applied",
            LEAVE,
            "        return self.post_layernorm(x[:, 1:])\n",
            "post_layernorm belongs to the pooled class vector. The patch features are taken before it.",
        ),
        Mistake(
            "as for the pooled vector",
            COUNT
            + """
        for block in self.encoder.layers[:blocks]:
            x = block(x)
"""
            + LEAVE,
            """for block in self.encoder.layers:
            x = block(x)
        return self.post_layernorm(x[:, 1:])
""",
            "All blocks are run and post_layernorm is applied, as for the vector that CLIP compares "
            "with captions. "
            "The patch features are taken from the layer that is asked for, before post_layernorm.",
        ),
        Mistake(
            "pre_layrnorm forgotten",
            ENTER,
            "x = self.embeddings(pixel_values)",
            "pre_layrnorm is not applied. CLIP normalises the embeddings once, before the first "
            "block; that is state 0.",
        ),
    ],
    "freeze": [
        Mistake(
            "nothing passes",
            STILL,
            STILL.replace("    return", "    module.forward = torch.no_grad()(module.forward)\n    return"),
            "no_grad inside the module also stops the gradients that only pass through it. Its own parameters are "
            "frozen, no more: a projection is trained in front of a frozen language model.",
        ),
        Mistake(
            "the rest thawed",
            TRAIN,
            TRAIN.replace("        return", "        self.llm.requires_grad_(True)\n        return"),
            "train() switches modes only. Here it also makes the language model's parameters learn, which somebody may "
            "have frozen on purpose.",
        ),
        Mistake(
            "left in training mode",
            STILL,
            "    for parameter in module.parameters():\n        parameter.requires_grad = False\n    return module\n",
            "The weights are frozen, but the module is still in training mode: dropout drops and "
            "batch norm's statistics move with every picture. Frozen means eval mode too.",
        ),
        Mistake(
            "parameters frozen, norm statistics moving",
            STILL,
            "    for parameter in module.parameters():\n        parameter.requires_grad = False\n"
            "    for part in module.modules():\n"
            "        part.training = isinstance(part, nn.modules.batchnorm._BatchNorm)\n    return module\n",
            "The weights are frozen and dropout is off, but batch norm is still in training mode: its running "
            "statistics are buffers, which no gradient moves and every picture does. eval() stops them too.",
        ),
        Mistake(
            "only eval mode",
            STILL,
            "    return module.eval()\n",
            "eval() switches dropout and batch norm, and nothing else: the parameters still take "
            "gradients, and an optimizer would move them.",
        ),
        Mistake(
            "requires_grad of the module",
            STILL,
            "    module.requires_grad = False\n    return module.eval()\n",
            "Setting requires_grad on a module only makes a new attribute that nobody reads. The "
            "flag belongs to each parameter (requires_grad_() with the underscore goes through them).",
        ),
        Mistake(
            "only its own training flag",
            STILL,
            "    for parameter in module.parameters():\n        parameter.requires_grad = False\n"
            "    module.training = False\n    return module\n",
            "training = False on the module alone leaves its submodules, the dropout among them, in "
            "training mode. eval() goes through all of them.",
        ),
        Mistake(
            "only its own parameters",
            STILL,
            "    for parameter in module.parameters(recurse=False):\n"
            "        parameter.requires_grad = False\n    return module.eval()\n",
            "Only the parameters of the outermost module are frozen, not those of the modules inside it.",
        ),
        Mistake(
            "nothing returned",
            STILL,
            "    for parameter in module.parameters():\n        parameter.requires_grad = False\n    module.eval()\n",
            "freeze ends without returning the module, so `self.vision = freeze(vision)` would be None.",
        ),
        Mistake(
            "eval mode lost",
            TRAIN,
            "        return super().train(mode)\n",
            "VLM.train() switches all its parts, the eye too. Trainers call it again and again, so "
            "the eye has to be put back in eval mode each time, after the rest has been switched.",
        ),
        Mistake(
            "mode ignored",
            TRAIN,
            "        super().train()\n        if self.vision is not None:\n"
            "            self.vision.eval()\n        return self\n",
            "`mode` is not passed on: eval() calls train(False), and everything would stay in training mode.",
        ),
        Mistake(
            "whole VLM frozen",
            TRAIN,
            "        super().train(mode)\n        return self.requires_grad_(False)\n",
            "This freezes projection and language model along with the eye: nothing is left that can learn.",
        ),
        Mistake(
            "train calls itself",
            TRAIN,
            "        self.train(mode)\n        if self.vision is not None:\n            self.vision.eval()\n"
            "        return self\n",
            "self.train(mode) is this very method, which calls itself for ever. nn.Module's own, which "
            "switches all the parts, is super().train(mode).",
        ),
        Mistake(
            "train returns nothing",
            TRAIN,
            "        super().train(mode)\n        if self.vision is not None:\n            self.vision.eval()\n",
            "train() ends without returning self; `vlm = VLM(...).eval()` would be None.",
        ),
        Mistake(
            "no eye forgotten",
            TRAIN,
            "        super().train(mode)\n        self.vision.eval()\n        return self\n",
            "vision may be None (when only ready-made features are passed in), and None has no eval().",
        ),
    ],
    "projection": [
        Mistake(
            "layers in a plain list",
            ONE,
            ONE + "\n        self.more = [nn.Linear(text_dim, text_dim)]\n"
            "        self.linear_1.register_forward_hook(lambda layer, inputs, output: self.more[0](output))",
            "A layer in a plain list is invisible to PyTorch: it is not trained, moved or saved. nn.ModuleList and "
            "nn.Sequential make it known.",
        ),
        Mistake(
            "sizes swapped",
            ONE,
            "self.linear_1 = nn.Linear(text_dim, vision_dim)",
            "nn.Linear takes the size that comes in first, then the size that goes out: vision_dim comes in.",
        ),
        Mistake(
            "sizes written down",
            ONE,
            "self.linear_1 = nn.Linear(768, text_dim)",
            "768 is the width of one particular eye. The projection has to fit any: use vision_dim and text_dim.",
        ),
        Mistake(
            "mean over the patches",
            PROJECT,
            "return self.linear_2(F.gelu(self.linear_1(features.mean(1))))",
            "The patches are averaged before they are projected: one vector for the whole picture, "
            "and where things are is gone. Each patch is projected by itself.",
        ),
        Mistake(
            "mean over the patches, one token left",
            PROJECT,
            "return self.linear_2(F.gelu(self.linear_1(features.mean(1, keepdim=True))))",
            "The patches are averaged before they are projected: one token for the whole picture, and where things are "
            "is gone. Each patch is projected by itself.",
        ),
        Mistake(
            "mean over the patches, repeated",
            PROJECT,
            "return self.linear_2(F.gelu(self.linear_1(features.mean(1, keepdim=True).expand_as(features))))",
            "Every patch gets the projection of the average patch: the shape is right, the picture is gone.",
        ),
        Mistake(
            "one patch for all",
            PROJECT,
            "return self.linear_2(F.gelu(self.linear_1(features[:, :1].expand_as(features))))",
            "Every place shows the first patch. Each of the P outputs has to come from its own patch.",
        ),
        Mistake(
            "patches mixed",
            PROJECT,
            "y = self.linear_2(F.gelu(self.linear_1(features)))\n        return y + y.mean(1, keepdim=True)",
            "A patch's output depends on the other patches. Mixing patches was the eye's work; the "
            "projection only translates, each patch by itself.",
        ),
        Mistake(
            "neighbours mixed",
            PROJECT,
            "y = self.linear_2(F.gelu(self.linear_1(features)))\n        return y.cumsum(1)",
            "The outputs run over from each patch into those after it. The projection works on each patch by itself.",
        ),
        Mistake(
            "over the wrong axis",
            PROJECT,
            "y = self.linear_2(F.gelu(self.linear_1(features)))\n        return y.transpose(1, 2).reshape(y.shape)",
            "The axes of patches and width are mixed up: a linear layer already works on the last "
            "axis, so nothing needs to be transposed, and reshape would not transpose it.",
        ),
        Mistake(
            "axes swapped",
            PROJECT,
            "return self.linear_2(F.gelu(self.linear_1(features))).transpose(1, 2)",
            "The output is [B, text_dim, P]. The language model wants tokens first, then width: [B, P, text_dim].",
        ),
        Mistake(
            "pictures mixed",
            PROJECT,
            "y = self.linear_2(F.gelu(self.linear_1(features)))\n        return y - y.mean(0, keepdim=True)",
            "A picture's output depends on the other pictures of the batch: alone it would look different.",
        ),
        Mistake(
            "layer made in forward",
            PROJECT,
            "return nn.Linear(features.shape[-1], self.linear_2.out_features)(features)",
            "One input gives two outputs. A layer that is made in forward is new, and random, at every call, and "
            "never learns: make it in __init__. (Or are random numbers drawn in forward?)",
        ),
        Mistake(
            "unused layer",
            PROJECT,
            "return self.linear_1(features)",
            "A layer is made in __init__ and never used in forward: no gradient reaches it, so it never learns.",
        ),
        Mistake(
            "detached",
            PROJECT,
            "return self.linear_2(F.gelu(self.linear_1(features))).detach()",
            "detach() cuts the gradient. It is the eye that is frozen; the projection is the part that learns.",
        ),
        Mistake(
            "features not used",
            PROJECT,
            "return self.linear_2(F.gelu(self.linear_1(torch.ones_like(features))))",
            "The output does not depend on the features: the model would be blind.",
        ),
        Mistake(
            "part of the features",
            PROJECT,
            "half = features.shape[-1] // 2\n"
            "        cut = torch.cat([features[..., :half], features[..., half:] * 0], -1)\n"
            "        return self.linear_2(F.gelu(self.linear_1(cut)))",
            "Part of each patch's numbers never reaches the output. A projection weighs all of them; it does not cut.",
        ),
    ],
    "token_concat": [
        Mistake(
            "text before picture",
            JOIN,
            "return torch.cat([text, image], dim=1)",
            "The words come first. Attention is causal: words before the picture can never look at it.",
        ),
        Mistake(
            "along the width",
            JOIN,
            "return torch.cat([image, text], dim=-1)",
            "dim=-1 joins along the width, as if picture and words were two halves of one token. The "
            "sentence grows along the axis of the tokens.",
        ),
        Mistake(
            "along the batch",
            JOIN,
            "return torch.cat([image, text], dim=0)",
            "dim=0 makes a longer batch: pictures and texts become separate rows that never meet.",
        ),
        Mistake(
            "one picture for everybody",
            SAME,
            "    image = image[:1].expand(len(text), -1, -1)\n",
            "Every row of the batch gets the first row's picture. Each text belongs to its own picture.",
        ),
        Mistake(
            "no ValueError",
            SAME,
            "",
            "Batch and width are not compared. torch.cat complains with a RuntimeError about sizes; "
            "a ValueError that names picture and text is asked for.",
        ),
        Mistake(
            "only the width compared",
            SAME,
            "    if image.shape[2] != text.shape[2]:\n        raise ValueError('widths differ')\n"
            "    image = image.expand(len(text), -1, -1)\n",
            "Only the widths are compared, and a batch of one picture is spread over all texts: "
            "everybody is shown the same picture, and no error tells.",
        ),
        Mistake(
            "only the batch compared",
            SAME,
            "    if image.shape[0] != text.shape[0]:\n        raise ValueError('batches differ')\n",
            "Only the batches are compared; the widths have to agree as well.",
        ),
        Mistake(
            "added",
            JOIN,
            "n = min(image.shape[1], text.shape[1])\n"
            "    return torch.cat([image[:, :n] + text[:, :n], image[:, n:], text[:, n:]], 1)",
            "Picture and words are added up where they overlap. They are tokens of one sentence: one after the other.",
        ),
    ],
    "place_tokens": [
        Mistake(
            "one sample's picture in another's sentence",
            PLACES,
            "    if sum(len(row) for row in tokens) != sum(kept) or any(row.shape[1] != text.shape[2] for row in tokens):\n",
            "Only the totals are compared. Where one row has a picture too few and another one too many, the total is "
            "right, and a picture lands in somebody else's sentence. Compare row by row.",
        ),
        Mistake(
            "nothing compared",
            PLACES,
            "    if False:\n",
            "Nothing is compared. masked_scatter takes what it is given from the front: with a picture too many or "
            "too wide it says nothing, and every later row gets the wrong numbers.",
        ),
        Mistake(
            "widths not compared",
            PLACES,
            "    if [len(row) for row in tokens] != kept:\n",
            "The widths are not compared. masked_scatter counts numbers, not vectors: tokens of another width run "
            "over into their neighbours' places.",
        ),
        Mistake(
            "rows without an entry",
            PLACES,
            "    if any(len(row) != n or row.shape[1] != text.shape[2] for row, n in zip(tokens, kept)):\n",
            "images has fewer entries than text has rows, and nothing complains: zip ends with the "
            "shorter of the two. Each row has its own entry; one without pictures has an empty one, [0, "
            "P, D].",
        ),
        Mistake(
            "in front of the words",
            SCATTER,
            "filled = [torch.cat([row.to(text), words[~at]]) for row, words, at in zip(tokens, text, places)]\n"
            "    return torch.stack(filled)",
            "The pictures stand in front of the words. Each belongs exactly where its places are.",
        ),
        Mistake(
            "at the beginning of the row",
            SCATTER,
            "rows = text.clone()\n    for b, filled in enumerate(tokens):\n        rows[b, :len(filled)] = filled\n"
            "    return rows",
            "The pictures overwrite the row from its beginning, words and all. Each belongs exactly where its "
            "places are.",
        ),
        Mistake(
            "mask without width",
            SCATTER,
            "return text.masked_scatter(places, torch.cat(tokens).to(text))",
            "places is [B, T] and text [B, T, D]: the mask needs a last axis, places[..., None], which is then "
            "spread over the width.",
        ),
        Mistake(
            "words replaced, places kept",
            SCATTER,
            "flat = torch.cat(tokens).to(text)\n    return text.where(places[..., None], flat.mean())",
            "The places keep the placeholder's vector, and the words are gone: the mask is the wrong way round.",
        ),
        Mistake(
            "added to the placeholder",
            SCATTER,
            "return text + torch.zeros_like(text).masked_scatter(places[..., None], torch.cat(tokens).to(text))",
            "The picture is added to the placeholder's own vector. It takes that vector's place: of the placeholder "
            "nothing is left.",
        ),
        Mistake(
            "text changed in place",
            SCATTER,
            "text[places] = torch.cat(tokens).to(text)\n    return text",
            "text itself is overwritten. Whoever handed it in still needs it (and autograd may need it too): fill "
            "a copy.",
        ),
        Mistake(
            "one picture for everybody",
            SCATTER,
            "first = next(row for row in tokens if len(row))\n"
            "    several = torch.cat([first[torch.arange(len(row), device=first.device) % len(first)] for row in tokens])\n"
            "    return text.masked_scatter(places[..., None], several.to(text))",
            "Every row gets the first row's picture.",
        ),
        Mistake(
            "one place for a whole picture",
            TOKENS,
            "tokens = [pictures.mean(1) for pictures in images]",
            "Each picture has become one vector, as if `<|image|>` stood once for it. It stands there once for each "
            "of its P tokens.",
        ),
        Mistake(
            "pictures mixed",
            TOKENS,
            "tokens = [pictures.transpose(0, 1).flatten(0, 1) for pictures in images]",
            "The first patches of all pictures come first, then the second ones. One picture is finished before the "
            "next begins: [N, P, D] to [N * P, D].",
        ),
        Mistake(
            "rows in reverse",
            SCATTER,
            "return text.masked_scatter(places[..., None], torch.cat(tokens[::-1]).to(text))",
            "The rows' pictures are joined in another order than the rows: pictures land in other sentences.",
        ),
        Mistake(
            "detached",
            SCATTER,
            "return text.masked_scatter(places[..., None], torch.cat(tokens).detach().to(text))",
            "No gradient goes back to the pictures, so the projection would never learn.",
        ),
        Mistake(
            "type of the pictures",
            SCATTER,
            "return text.masked_scatter(places[..., None], torch.cat(tokens))",
            "Under autocast the projection gives bfloat16 and the embedding float32; masked_scatter wants one type. "
            "The result has the type of text.",
        ),
    ],
    "vlm_labels": [
        Mistake(
            "labels off by one",
            LEARNED,
            "labels = " + LEARNED.removeprefix("return ") + "\n    return F.pad(labels[:, 1:], (0, 1), value=IGNORE)",
            "The labels are moved by one. The language model shifts them itself, once; shifted twice, each position "
            "is taught the token after the next.",
        ),
        Mistake(
            "end token unsupervised",
            LEARNED,
            'return input_ids.where(answer & ~token["end"] & ~token["image"] & ~token["pad"], IGNORE)',
            "<|end|> is not learned, so the model never learns to stop: it would talk on after each answer.",
        ),
        Mistake(
            "loss on picture positions",
            LEARNED,
            'return input_ids.where(answer & ~token["pad"], IGNORE)',
            "A picture inside an answer is learned. At a picture token there is no word to predict: `<|image|>` gets "
            "IGNORE wherever it stands.",
        ),
        Mistake(
            "padding learned",
            LEARNED,
            'return input_ids.where(answer & ~token["image"], IGNORE)',
            "The padding after an answer that was cut off is learned, as if the model were to say <|pad|>.",
        ),
        Mistake(
            "everything learned",
            LEARNED,
            'return input_ids.where(~token["image"] & ~token["pad"], IGNORE)',
            "The questions are learned too. The model shall answer, not ask: only what follows <|assistant|> counts.",
        ),
        Mistake(
            "marker learned",
            ANSWER,
            "answer = (begun > ended) | F.pad(begun > ended, (1, -1))",
            "<|assistant|> itself is learned. The template writes it, never the model.",
        ),
        Mistake(
            "marker for end token",
            ANSWER,
            "answer = begun > ended",
            "The answers begin one place too early: <|assistant|> is learned, and <|end|> is not.",
        ),
        Mistake(
            "only the last answer",
            LEARNED,
            "last = begun == begun.amax(dim=1, keepdim=True)\n"
            '    return input_ids.where(answer & F.pad(last, (1, -1)) & ~token["image"] & ~token["pad"], IGNORE)',
            "Only the last answer of each row is learned. Every answer of a conversation counts.",
        ),
        Mistake(
            "all after the first answer",
            ENDED,
            "ended = 0",
            "From the first <|assistant|> on everything is learned, the next question too. An answer ends with "
            "<|end|>.",
        ),
        Mistake(
            "all up to the end",
            BEGUN,
            "begun = place",
            "Whatever is not directly after an <|end|> is learned. An answer begins after <|assistant|>.",
        ),
        Mistake(
            "markers counted",
            BEGUN + "  # where the last answer up to here began,\n    " + ENDED,
            'begun = token["assistant"].cumsum(dim=1)\n    ended = token["end"].cumsum(dim=1)',
            "You count how many answers have begun and how many have ended. A row may be cut off in "
            "front: then an <|end|> stands there whose <|assistant|> is gone, and the count is wrong "
            "for the rest of the row. Ask which marker came last.",
        ),
        Mistake(
            "only the first answer",
            LEARNED,
            'once = (place * token["end"]).masked_fill(~token["end"] | (begun == 0), len(place) + 1).amin(1, True)\n'
            '    return input_ids.where(answer & (place <= once) & ~token["image"] & ~token["pad"], IGNORE)',
            "Only the first answer of each row is learned. Every answer of a conversation counts.",
        ),
        Mistake(
            "picture and padding in an answer",
            LEARNED,
            "return input_ids.where(answer, IGNORE)",
            "After <|assistant|> everything up to <|end|> is learned, as in step 4. Here a picture may "
            "stand in an answer, and padding behind one that was cut off: `<|image|>` and `<|pad|>` are "
            "never learned.",
        ),
        Mistake(
            "one row goes on into the next",
            BEGUN
            + "  # where the last answer up to here began,\n    "
            + ENDED
            + "  # and where the last one ended\n    "
            + ANSWER,
            "flat = torch.arange(1, input_ids.numel() + 1, device=input_ids.device)\n"
            '    begun = (flat * token["assistant"].flatten()).cummax(0).values\n'
            '    ended = (flat * token["end"].flatten()).cummax(0).values\n'
            "    answer = F.pad(begun > ended, (1, -1)).view_as(input_ids)",
            "A row begins as the row before it has ended: where that one's answer was cut off, the next "
            "row's question is learned. Each row begins with nobody answering.",
        ),
        Mistake(
            "ignored as 0",
            LEARNED,
            'return input_ids * (answer & ~token["image"] & ~token["pad"])',
            "0 is a token like any other: the model would be taught to say it. IGNORE, -100, is the label that the "
            "loss leaves out.",
        ),
    ],
    "vlm_forward": [
        Mistake(
            "labels not padded",
            LABELS,
            "pass",
            "labels still has T places, the language model reads P + T. The picture's positions need "
            "labels too: IGNORE.",
        ),
        Mistake(
            "loss on picture positions",
            LABELS,
            "labels = F.pad(labels, (embeds.shape[1] - labels.shape[1], 0), value=0)",
            "The picture's positions are labelled 0, which is a token like any other: the model "
            "would be taught to say it. IGNORE is the label that the loss leaves out.",
        ),
        Mistake(
            "labels padded on the right",
            LABELS,
            "labels = F.pad(labels, (0, embeds.shape[1] - labels.shape[1]), value=IGNORE)",
            "The labels stand under the picture and the filling under the words. The picture comes "
            "first, so the labels grow on the left.",
        ),
        Mistake(
            "labels off by one",
            LABELS,
            "labels = F.pad(labels[:, 1:], (embeds.shape[1] - labels.shape[1], 1), value=IGNORE)",
            "The labels are moved by one. The language model shifts them itself, once; shifted "
            "twice, each position is taught the token after the next.",
        ),
        Mistake(
            "labels not passed on",
            READ,
            "return self.llm(inputs_embeds=embeds, attention_mask=attention_mask)",
            "The labels do not reach the language model, so there is no loss.",
        ),
        Mistake(
            "mask padded with 0",
            MASK,
            "attention_mask = F.pad(attention_mask, (features.shape[1], 0), value=0)",
            "The mask hides the picture (0 means: not there). The words are answered blindly, and nothing complains.",
        ),
        Mistake(
            "mask padded on the right",
            MASK,
            "attention_mask = F.pad(attention_mask, (0, features.shape[1]), value=1)",
            "The ones are added at the end, so the words' zeros now hide parts of the picture. The "
            "picture is in front.",
        ),
        Mistake(
            "mask not padded",
            MASK,
            "pass",
            "attention_mask still has T places, and the language model wants P + T: 1 for each picture token.",
        ),
        Mistake(
            "mask not passed on",
            READ,
            "return self.llm(inputs_embeds=embeds, labels=labels)",
            "The attention mask does not reach the language model: padding is read as if it were words.",
        ),
        Mistake(
            "features not projected",
            EMBEDS,
            "        return token_concat(features, text), attention_mask\n",
            "The features go in as they are. They have the eye's width and speak its language: the "
            "projection translates.",
        ),
        Mistake(
            "features not projected, joined all the same",
            EMBEDS,
            "        return torch.cat([features, text], dim=1), attention_mask\n",
            "The features go in as they are. They have the eye's width and speak its language: the "
            "projection translates.",
        ),
        Mistake(
            "eye asked again",
            EMBEDS,
            "        return token_concat(self.projection(self.vision(features)), text), attention_mask\n",
            "features are what the eye has said already (VLM.see asks it); vision may even be None. "
            "They only have to be projected.",
        ),
        Mistake(
            "first word not learned",
            READ,
            "logits, _ = self.llm(inputs_embeds=embeds, attention_mask=attention_mask)\n"
            "        if labels is None:\n            return logits, None\n"
            "        T = input_ids.shape[1]\n"
            "        return logits, F.cross_entropy(logits[:, -T:-1].flatten(0, 1), labels[:, -T:][:, 1:].flatten())",
            "The first word has no part in the loss. It is guessed by the logits of the last picture "
            "token, which your loss leaves out. Give the language model labels for the whole row and "
            "let it do the rest.",
        ),
        Mistake(
            "words replaced",
            EMBEDS,
            "        embeds = token_concat(self.projection(features), text)\n"
            "        embeds[:, -1] = embeds[:, 0]\n        return embeds, attention_mask\n",
            "Embeddings of words are overwritten by picture tokens. The picture is put in front of "
            "them; no word is lost.",
        ),
        Mistake(
            "text before picture",
            EMBEDS,
            "        return token_concat(text, self.projection(features)), attention_mask\n",
            "The words come before the picture, and cannot look at it.",
        ),
        Mistake(
            "projection without gradient",
            EMBEDS,
            "        return token_concat(self.projection(features).detach(), text), attention_mask\n",
            "No gradient reaches the projection. The eye is frozen, the projection is what learns.",
        ),
        Mistake(
            "rows without a picture forgotten",
            ALONE,
            "",
            "features may be None: then there are only words, and nothing is put in front of them.",
        ),
        Mistake(
            "places without a picture",
            ALONE,
            "        if features is None:\n            return text, attention_mask\n",
            "input_ids keep places for a picture, features is None, and nothing complains: the placeholder would be "
            "read as if it were a word. Raise a ValueError.",
        ),
        Mistake(
            "labels padded without a picture",
            LABELS,
            "labels = F.pad(labels, (self.num_patches, 0), value=IGNORE)",
            "Only a picture in front makes the row longer. Without one, or with pictures in their places, the labels "
            "stay as long as the words.",
        ),
        Mistake(
            "pictures in front, not in their places",
            INSIDE,
            "        if not isinstance(features, torch.Tensor):\n"
            "            features = torch.stack([one[0] if len(one) else features[0][0] * 0 for one in features])\n",
            "A list of features belongs where the placeholders stand: place_tokens. You put one picture of each row "
            "in front.",
        ),
        Mistake(
            "pictures in their places not projected",
            INSIDE,
            "        if not isinstance(features, torch.Tensor):\n"
            "            return place_tokens(features, text, places), attention_mask\n",
            "The pictures of a list go in as the eye described them. They too are projected, row by row.",
        ),
        Mistake(
            "mask grown for pictures in their places",
            INSIDE,
            "        if not isinstance(features, torch.Tensor):\n"
            "            if attention_mask is not None:\n"
            "                attention_mask = F.pad(attention_mask, (self.num_patches, 0), value=1)\n"
            "            return place_tokens([self.projection(one) for one in features], text, places), attention_mask\n",
            "The mask has grown, and the row has not: pictures in their places stand where the text kept room for "
            "them.",
        ),
        Mistake(
            "blind",
            READ,
            "n = embeds.shape[1] - input_ids.shape[1]\n        logits, loss = self.llm(input_ids=input_ids)\n"
            "        return F.pad(logits, (0, 0, n, 0)), loss",
            "The language model reads input_ids and never sees the picture. Hand it inputs_embeds.",
        ),
    ],
    "vlm_generate": [
        Mistake(
            "mask lost with a list",
            GENERATE,
            "        embeds, whole = self.embed(input_ids, features, attention_mask)\n"
            "        if isinstance(features, list):\n            whole = None\n"
            "        return self.llm.generate(inputs_embeds=embeds, attention_mask=whole, **options)\n",
            "With pictures in their places the mask does not reach the language model: padding is read as if it were "
            "words.",
        ),
        Mistake(
            "mask wanted",
            GENERATE,
            "        embeds, _ = self.embed(input_ids, features)\n"
            "        attention_mask = F.pad(attention_mask, (embeds.shape[1] - input_ids.shape[1], 0), value=1)\n"
            "        return self.llm.generate(inputs_embeds=embeds, attention_mask=attention_mask, **options)\n",
            "Without an attention mask there is nothing to make longer: None means that nothing is hidden. embed takes "
            "care of both.",
        ),
        Mistake(
            "some options only",
            GENERATE,
            "        embeds, attention_mask = self.embed(input_ids, features, attention_mask)\n"
            '        some = {name: options[name] for name in ("max_new_tokens", "eos_token_id") if name in options}\n'
            "        return self.llm.generate(inputs_embeds=embeds, attention_mask=attention_mask, **some)\n",
            "Some of the options do not reach the language model's generate: hand on all of them, **options.",
        ),
        Mistake(
            "left in eval mode",
            GENERATE,
            "        self.eval()\n" + GENERATE,
            "generate leaves the VLM in eval mode. Whoever calls it in the middle of training goes on without dropout: "
            "leave the mode to the caller.",
        ),
        Mistake(
            "blind",
            GENERATE,
            "        return self.llm.generate(input_ids=input_ids, attention_mask=attention_mask, **options)\n",
            "The language model generates from input_ids and never sees the picture. Hand it what embed gives.",
        ),
        Mistake(
            "picture fed again at every generated token",
            GENERATE,
            "        embeds, mask = self.embed(input_ids, features, attention_mask)\n"
            '        ids, stop = [], options.get("eos_token_id")\n'
            '        while len(ids) < options["max_new_tokens"] and not (ids and stop is not None and (ids[-1] == stop).all()):\n'
            "            token = self.llm(inputs_embeds=embeds, attention_mask=mask)[0][:, -1].argmax(-1)\n"
            "            if ids and stop is not None:\n"
            "                token = torch.where(ids[-1] == stop, stop, token)\n"
            "            ids.append(token)\n"
            "            embeds = torch.cat([embeds, self.llm.get_input_embeddings()(token[:, None])], dim=1)\n"
            "            mask = F.pad(mask, (0, 1), value=1) if mask is not None else None\n"
            "        return torch.stack(ids, dim=1)\n",
            "The answer is right, and the whole row, picture included, is read again for every new token. The "
            "picture enters once; then the language model's own generate goes on with its cache.",
        ),
        Mistake(
            "positions restarted after the picture",
            GENERATE,
            "        embeds, mask = self.embed(input_ids, features, attention_mask)\n"
            "        first = self.llm(inputs_embeds=embeds, attention_mask=mask)[0][:, -1:].argmax(-1)\n"
            '        if options["max_new_tokens"] == 1:\n            return first\n'
            '        options["max_new_tokens"] -= 1\n'
            "        rest = self.llm.generate(input_ids=first, **options)\n"
            "        return torch.cat([first, rest], dim=1)\n",
            "After the first new token everything begins anew: the second call knows nothing of picture and words, "
            "and counts positions from 0 again. One call of generate reads the row and goes on after it.",
        ),
        Mistake(
            "mask forgotten",
            GENERATE,
            "        embeds, _ = self.embed(input_ids, features, attention_mask)\n"
            "        return self.llm.generate(inputs_embeds=embeds, **options)\n",
            "The attention mask does not reach the language model: padding is read as if it were words, and a row "
            "answers otherwise in a batch than alone.",
        ),
        Mistake(
            "mask of the words alone",
            GENERATE,
            "        embeds, _ = self.embed(input_ids, features, attention_mask)\n"
            "        return self.llm.generate(inputs_embeds=embeds, attention_mask=attention_mask, **options)\n",
            "This is the mask of the words; the row has the picture in front of them. embed returns the mask that "
            "fits.",
        ),
        Mistake(
            "mask that hides the picture",
            GENERATE,
            "        embeds, mask = self.embed(input_ids, features, attention_mask)\n"
            "        if mask is not None and mask.shape != attention_mask.shape:\n"
            "            mask = F.pad(attention_mask, (embeds.shape[1] - input_ids.shape[1], 0), value=0)\n"
            "        return self.llm.generate(inputs_embeds=embeds, attention_mask=mask, **options)\n",
            "The mask hides the picture, so its positions are not counted and nobody looks at it.",
        ),
        Mistake(
            "options not passed on",
            GENERATE,
            "        embeds, attention_mask = self.embed(input_ids, features, attention_mask)\n"
            "        return self.llm.generate(inputs_embeds=embeds, attention_mask=attention_mask)\n",
            "The options do not reach the language model: how many tokens, where to stop, how to choose.",
        ),
        Mistake(
            "row handed over as ids",
            GENERATE,
            "        embeds, mask = self.embed(input_ids, features, attention_mask)\n"
            "        return self.llm.generate(embeds, attention_mask=mask, **options)\n",
            "The first parameter of generate is input_ids. The row consists of vectors already: hand it "
            "over by name, inputs_embeds=...",
        ),
        Mistake(
            "options in one parcel",
            GENERATE,
            "        embeds, mask = self.embed(input_ids, features, attention_mask)\n"
            "        return self.llm.generate(inputs_embeds=embeds, attention_mask=mask, options=options)\n",
            "options is a dict of named arguments: `**options` unpacks them again.",
        ),
        Mistake(
            "prompt returned too",
            GENERATE,
            "        embeds, attention_mask = self.embed(input_ids, features, attention_mask)\n"
            "        new = self.llm.generate(inputs_embeds=embeds, attention_mask=attention_mask, **options)\n"
            "        return torch.cat([input_ids, new], dim=1)\n",
            "Only the new ids are asked for; the prompt is known already.",
        ),
    ],
    "contrastive_loss": [
        Mistake(
            "scale clamped",
            LOGITS,
            "logits = logit_scale.exp().clamp(max=100) * F.normalize(image, dim=-1) @ F.normalize(text, dim=-1).T",
            "The scale is kept below 100. CLIP's training did that to its parameter; the loss itself takes what it is "
            "given.",
        ),
        Mistake(
            "temperature not exponentiated",
            LOGITS,
            "logits = logit_scale * F.normalize(image, dim=-1) @ F.normalize(text, dim=-1).T",
            "logit_scale is a logarithm (so that the scale stays positive while it is learned): take exp of it.",
        ),
        Mistake(
            "divided by the scale",
            LOGITS,
            "logits = F.normalize(image, dim=-1) @ F.normalize(text, dim=-1).T / logit_scale.exp()",
            "exp(logit_scale) is one over the temperature: multiply by it.",
        ),
        Mistake(
            "no scale",
            LOGITS,
            "logits = F.normalize(image, dim=-1) @ F.normalize(text, dim=-1).T + 0 * logit_scale",
            "The temperature is not used. Cosines lie between -1 and 1: unscaled, the softmax is "
            "nearly flat and hardly anything is learned.",
        ),
        Mistake(
            "not normalised",
            LOGITS,
            "logits = logit_scale.exp() * image @ text.T",
            "The vectors are not normalised: these are dot products, and long vectors win. Cosines need length 1.",
        ),
        Mistake(
            "only the pictures normalised",
            LOGITS,
            "logits = logit_scale.exp() * F.normalize(image, dim=-1) @ text.T",
            "Only the pictures are normalised; the captions have to be, too.",
        ),
        Mistake(
            "only the captions normalised",
            LOGITS,
            "logits = logit_scale.exp() * image @ F.normalize(text, dim=-1).T",
            "Only the captions are normalised; the pictures have to be, too.",
        ),
        Mistake(
            "scale as a plain number",
            LOGITS,
            "logits = logit_scale.exp().item() * F.normalize(image, dim=-1) @ F.normalize(text, dim=-1).T",
            "logit_scale has become a plain number on the way, so no gradient reaches it. The scale is "
            "learned: keep it a tensor, logit_scale.exp().",
        ),
        Mistake(
            "normalised over the batch",
            LOGITS,
            "logits = logit_scale.exp() * F.normalize(image, dim=0) @ F.normalize(text, dim=0).T",
            "dim=0 normalises over the batch. Each vector by itself has length 1: the last axis.",
        ),
        Mistake(
            "one-sided contrastive loss",
            BOTH,
            "return F.cross_entropy(logits, own)",
            "Only the pictures look for their captions. The loss is symmetric: each caption looks "
            "for its picture as well, so in the second half the rows are captions.",
        ),
        Mistake(
            "sum of both",
            BOTH,
            "return F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)",
            "This is the sum of both cross-entropies; their mean is asked for.",
        ),
        Mistake(
            "summed over the batch",
            BOTH,
            'return (F.cross_entropy(logits, own, reduction="sum") + F.cross_entropy(logits.T, own, '
            'reduction="sum")) / 2',
            "The loss is summed over the batch, so it grows with its size. The mean is asked for.",
        ),
        Mistake(
            "wrong targets",
            OWN,
            "own = torch.zeros(len(logits), dtype=torch.long, device=logits.device)",
            "Every picture is told that caption 0 is its own. Picture i belongs to caption i: the diagonal.",
        ),
        Mistake(
            "softmax twice",
            BOTH,
            "return (F.cross_entropy(logits.softmax(-1), own) + F.cross_entropy(logits.T.softmax(-1), own)) / 2",
            "cross_entropy takes logits and does the softmax itself; here it is done twice.",
        ),
        Mistake(
            "softmax before the loss",
            LOGITS + "\n    " + OWN,
            "logits = (logit_scale.exp() * F.normalize(image, dim=-1) @ F.normalize(text, dim=-1).T).softmax(-1)\n    "
            + OWN,
            "cross_entropy takes logits and does the softmax itself; here it is done twice, and the "
            "columns get a table that was normalised along the rows.",
        ),
        Mistake(
            "yes or no for each cell",
            BOTH,
            "same = 2 * torch.eye(len(logits), device=logits.device, dtype=logits.dtype) - 1\n"
            "    return -F.logsigmoid(logits * same).mean()",
            "Each cell of the table is judged by itself: do these two belong together? That is SigLIP's "
            "loss. CLIP's asks each row, and each column, to choose one among B.",
        ),
        Mistake(
            "cosine of the pairs only",
            BOTH,
            "return (1 - logits.diagonal()).mean()",
            "Only the matching pairs are pulled together; nothing pushes the others apart, so all "
            "pictures and captions may end in one point. Each has to be chosen among B.",
        ),
    ],
}

# Changes that `python3 -m course audit` makes to the solution and that are no mistakes, with the reason.
HARMLESS = {
    "projection": {
        "Projection.forward: F.gelu(self.linear_1(features)) -> (self.linear_1(features))": "the structure is free: LLaVA's first version was one matrix"
    },
    "contrastive_loss": {
        "contrastive_loss: F.normalize(image, dim=-1) -> F.normalize(image)": "axis 1, its default, is the last of two",
        "contrastive_loss: F.normalize(text, dim=-1) -> F.normalize(text)": "axis 1, its default, is the last of two",
    },
}
