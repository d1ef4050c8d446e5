import numpy as np


def collate(rows, labels=None, pad_token_id=0, padding_side="right"):
    lengths = np.array([len(row) for row in rows])
    places = np.arange(lengths.max())
    there = places < lengths[:, None] if padding_side == "right" else places >= (lengths.max() - lengths)[:, None]

    def filled(sequences, value):
        table = np.full(there.shape, value, dtype=np.int64)
        table[there] = [token for sequence in sequences for token in sequence]
        return torch.from_numpy(table)

    batch = {"input_ids": filled(rows, pad_token_id), "attention_mask": torch.from_numpy(there.astype(np.int64))}
    if labels is not None:
        batch["labels"] = filled(labels, IGNORE)
    return batch
