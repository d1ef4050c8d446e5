"""Reading and writing Hugging Face checkpoints: real weights go into the learner's own classes, and out again.

files       a checkpoint folder: config.json, safetensors whole or in shards, strict loading
hub         a folder for a name such as "openai/clip-vit-base-patch16", downloaded once
models      CLIP vision towers into step 6's CLIPVisionModel, Llamas into step 2's GPT
tokenizer   a checkpoint's own tokenizer and chat template, behind the interface of course.training.chat
processor   pictures as CLIP's image processor prepares them
export      what a step has left, as a checkpoint that stock transformers loads
"""

from course.weights.files import WeightsError

__all__ = ["WeightsError"]
