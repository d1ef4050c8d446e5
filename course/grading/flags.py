"""What a human should look at, found by searching the text: points are never taken off for it.

A built-in in place of what a TODO asks for is right, and perhaps not what the instructor wants. Code that
reaches for the processes and frames around it has no reason to in an exercise. No pattern here repeats what
can match anywhere: a megabyte made to slow the search down is searched in one pass.
"""

import re

# (step, TODO): what does the TODO's work
BUILT_IN = {
    ("step1_tokenizer", "train_bpe"): r"\b(tokenizers|sentencepiece|BpeTrainer)\b",
    ("step1_tokenizer", "encode"): r"\b(tiktoken|tokenizers|sentencepiece)\b",
    ("step2_gpt", "rms_norm"): r"\b(nn\.RMSNorm|F\.rms_norm|functional\.rms_norm)\b",
    ("step2_gpt", "attention"): r"\b(scaled_dot_product_attention|MultiheadAttention|flex_attention)\b",
    ("step3_pretrain", "learning_rate"): r"\b(lr_scheduler|CosineAnnealing\w*|get_cosine_schedule\w*)\b",
    ("step4_sft", "collate"): r"\bpad_sequence\b",
    ("step5_rlhf", "dpo_loss"): r"\btrl\b",
    ("step6_vlm", "vit_block"): r"\b(TransformerEncoderLayer|MultiheadAttention)\b",
    ("step6_vlm", "patch_embed"): r"\b(PatchEmbed|timm)\b",
}
LIBRARIES = re.compile(
    r"^[ \t]*(?:import|from)[ \t]+(transformers|timm|tokenizers|tiktoken|torchvision|open_clip|trl|peft|"
    r"sentencepiece)\b",
    re.MULTILINE,
)
REACHES = {
    "looks at frames of its callers": r"\b(_getframe|f_back|f_globals|f_locals|inspect\.(stack|currentframe))\b",
    "goes around Python": r"\b(ctypes|cffi|mmap|_testcapi)\b",
    "looks for objects in memory": r"\bgc\.get_(objects|referrers)|__subclasses__\b",
    "looks at the modules around it": r"\bsys\.modules\b|\bimportlib\b|\b__import__\b|\bcourse\.(checking|grading)\b",
    "starts processes or talks to others": r"\b(subprocess|socket|multiprocessing|os\.(fork|system|popen|kill|exec\w*))\b",  # noqa: E501
    "writes or reads files": r"\b(open[ \t]?\(|pathlib|shutil|os\.(remove|unlink|rename|listdir|walk))",
    "ends the process": r"\bos\._exit\b|\bos\.abort\b|\bsignal\.",
    "loads pickles": r"\b(pickle|torch\.load|dill|joblib|marshal)\b",
    "builds code from text": r"(?<![.\w])(exec|eval|compile)[ \t]?\(",
    "changes compiled code": r"\b__code__\b|\b__globals__\b|\b__closure__\b",
}


def flags(source: bytes, step: str, exercise: str) -> list[str]:
    """What the text of a submission gives cause to look at; what the exercise itself contains does not
    count."""
    text, given = source.decode("utf-8", "replace"), exercise
    found = []
    for (name, todo), pattern in BUILT_IN.items():
        if name == step and (said := _new(pattern, text, given)):
            found.append(f"{todo}: uses {said}")
    for match in dict.fromkeys(match.group(1) for match in LIBRARIES.finditer(text)):
        found.append(f"imports {match}")
    for says, pattern in REACHES.items():
        if said := _new(pattern, text, given):
            found.append(f"{says} ({said})")
    return found


def _new(pattern: str, text: str, given: str) -> str:
    """The first match that the exercise does not contain as well, with its line."""
    known = {match.group(0) for match in re.finditer(pattern, given)}
    for match in re.finditer(pattern, text):
        if match.group(0) not in known:
            return f"{' '.join(match.group(0).split())[:40]}, line {text.count(chr(10), 0, match.start()) + 1}"
    return ""
