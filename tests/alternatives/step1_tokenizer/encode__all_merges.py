class Tokenizer:
    def encode_piece(self, piece):
        ids = [byte for byte in piece]
        for pair, new_id in self.merged_id.items():
            ids = merge(ids, pair, new_id)
        return ids
