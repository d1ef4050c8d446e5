def attention(q, k, v, mask=None):
    if mask is None and q.shape[2] == k.shape[2]:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)
    if mask is None:
        past = k.shape[2] - q.shape[2]
        mask = torch.arange(k.shape[2], device=q.device) <= past + torch.arange(q.shape[2], device=q.device)[:, None]
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
