def sample(logits, uniforms, temperature=1.0, top_k=None, top_p=None):
    logits = logits / temperature
    if top_k is not None:
        worst = logits.topk(min(top_k, logits.shape[-1]), dim=-1).values[:, -1, None]
        logits = logits.masked_fill(logits < worst, -float("inf"))
    if top_p is not None:
        ordered, order = logits.sort(dim=-1, descending=True)
        sums = ordered.softmax(-1).cumsum(-1)
        drop = sums > top_p
        drop = torch.cat([torch.zeros_like(drop[:, :1]), drop[:, :-1]], dim=-1)
        logits = logits.masked_fill(torch.zeros_like(drop).scatter(1, order, drop), -float("inf"))
    sums = logits.softmax(-1).cumsum(-1)
    return torch.searchsorted(sums, uniforms[:, None] * sums[:, -1:], right=True)[:, 0]
