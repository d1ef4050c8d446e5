def attention(q, k, v, mask=None):
    B, H, T, d = q.shape
    S = k.size(2)
    scores = torch.einsum("bhtd,bhsd->bhts", q / d**0.5, k)
    if mask is None:
        mask = ~torch.triu(torch.ones(T, S, device=q.device), diagonal=1 + S - T).bool()
    scores = torch.where(mask, scores, torch.finfo(scores.dtype).min)
    scores = scores - scores.max(dim=-1, keepdim=True).values
    weights = torch.exp(scores)
    return torch.einsum("bhts,bhsd->bhtd", weights / weights.sum(dim=-1, keepdim=True), v)
