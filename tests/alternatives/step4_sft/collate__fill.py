def collate(rows, labels=None, pad_token_id=0, padding_side="right"):
    B, T = len(rows), max(map(len, rows))
    input_ids = torch.full((B, T), pad_token_id, dtype=torch.long)
    attention_mask = torch.zeros(B, T, dtype=torch.long)
    targets = torch.full((B, T), IGNORE)
    for b, row in enumerate(rows):
        where = slice(T - len(row), T) if padding_side == "left" else slice(0, len(row))
        input_ids[b, where] = torch.as_tensor(row)
        attention_mask[b, where] = 1
        if labels is not None:
            targets[b, where] = torch.as_tensor(labels[b])
    batch = {"input_ids": input_ids, "attention_mask": attention_mask}
    return batch if labels is None else {**batch, "labels": targets}
