import re


def split_special(text, special_tokens):
    if not special_tokens:
        return [text] if text else []
    found = re.compile("|".join(re.escape(t) for t in sorted(special_tokens, key=lambda t: -len(t))))
    parts, end = [], 0
    for match in found.finditer(text):
        parts += [text[end : match.start()], match.group()]
        end = match.end()
    return [part for part in parts + [text[end:]] if part]


class Tokenizer:
    def encode(self, text, allowed_special=frozenset()):
        allowed, ids = self.allowed(allowed_special), []
        for part in split_special(text, allowed):
            ids += self.encode_ordinary(part) if part not in allowed else [self.special_tokens[part]]
        return ids
