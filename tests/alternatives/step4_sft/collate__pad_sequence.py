from torch.nn.utils.rnn import pad_sequence


def collate(rows, labels=None, pad_token_id=0, padding_side="right"):
    def pad(sequences, value):
        tensors = [torch.tensor(list(sequence)) for sequence in sequences]
        return pad_sequence(tensors, batch_first=True, padding_value=value, padding_side=padding_side)

    batch = dict(attention_mask=pad([[1] * len(row) for row in rows], 0))
    batch["input_ids"] = pad(rows, pad_token_id)
    if labels:
        batch["labels"] = pad(labels, IGNORE)
    return batch
