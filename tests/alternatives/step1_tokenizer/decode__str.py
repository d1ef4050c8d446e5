class Tokenizer:
    def decode_bytes(self, ids):
        return b"".join(map(self.token_bytes.__getitem__, ids))

    def decode(self, ids):
        return str(b"".join(self.token_bytes[int(i)] for i in ids), "utf8", "replace")
