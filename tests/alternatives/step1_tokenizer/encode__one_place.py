class Tokenizer:
    def encode_piece(self, piece):
        ids = list(piece)
        while True:
            found = [
                (self.merged_id[ids[i], ids[i + 1]], i)
                for i in range(len(ids) - 1)
                if (ids[i], ids[i + 1]) in self.merged_id
            ]
            if not found:
                return ids
            new_id, i = min(found)
            ids = ids[:i] + [new_id] + ids[i + 2 :]
