import codecs


class Tokenizer:
    def decode_bytes(self, ids):
        raw = bytearray()
        for i in ids:
            raw += self.token_bytes[i]
        return bytes(raw)

    def decode(self, ids):
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        text = "".join(decoder.decode(self.token_bytes[i]) for i in ids)
        return text + decoder.decode(b"", final=True)
