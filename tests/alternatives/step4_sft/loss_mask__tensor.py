def loss_mask(ids, special_tokens):
    row = torch.tensor(ids)
    step = (row == special_tokens["<|assistant|>"]).long() - (row == special_tokens["<|end|>"]).long()
    replying = torch.cat([torch.zeros(1, dtype=torch.long), step.cumsum(0)[:-1]]).bool()
    return row.masked_fill(~replying, IGNORE).tolist()
