def split_special(text, special_tokens):
    parts, plain, i = [], "", 0
    while i < len(text):
        here = [token for token in special_tokens if text.startswith(token, i)]
        if here:
            token = max(here, key=len)
            parts += [plain, token] if plain else [token]
            plain = ""
            i += len(token)
        else:
            plain += text[i]
            i += 1
    return parts + [plain] if plain else parts


class Tokenizer:
    def encode(self, text, allowed_special=frozenset()):
        if allowed_special == "all":
            allowed_special = set(self.special_tokens)
        ids = []
        for part in split_special(text, [t for t in self.special_tokens if t in allowed_special]):
            if part in self.special_tokens and part in allowed_special:
                ids.append(self.special_tokens[part])
            else:
                ids.extend(self.encode_ordinary(part))
        return ids
