def attention(q, k, v, mask=None):
    B, H, T, d = q.shape
    S = k.shape[2]
    if mask is not None:
        mask = mask.expand(B, H, T, S)
    out = []
    for b in range(B):
        for h in range(H):
            for t in range(T):
                if mask is None:
                    seen = torch.arange(S - T + t + 1, device=q.device)
                else:
                    seen = mask[b, h, t].nonzero()[:, 0]
                scores = (k[b, h, seen] * q[b, h, t]).sum(-1) * d**-0.5
                weights = torch.softmax(scores, dim=0)
                out.append((weights[:, None] * v[b, h, seen]).sum(0))
    return torch.stack(out).view(B, H, T, d)
