class Attention:
    def forward(self, x, angles, mask=None, cache=None):
        B, T, D = x.shape
        H, K, d = self.num_heads, self.num_kv_heads, self.head_dim
        q = torch.einsum("btd,hkd->bhtk", x, self.q_proj.weight.view(H, d, D))
        k = torch.einsum("btd,hkd->bhtk", x, self.k_proj.weight.view(K, d, D))
        v = torch.einsum("btd,hkd->bhtk", x, self.v_proj.weight.view(K, d, D))
        q = apply_rope(q, angles)
        k = apply_rope(k, angles)
        if cache is not None:
            k, v = cache.extend(self.layer, k, v)
        owner = torch.arange(H, device=x.device) // (H // K)
        y = attention(q, k[:, owner], v[:, owner], mask)
        return torch.einsum("bhtk,ohk->bto", y, self.o_proj.weight.view(D, H, d))
