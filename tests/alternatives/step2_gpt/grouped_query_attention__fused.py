class Attention:
    def forward(self, x, angles, mask=None, cache=None):
        B, T, _ = x.shape
        q = apply_rope(self.q_proj(x).view(B, T, self.num_heads, self.head_dim).permute(0, 2, 1, 3), angles)
        k = apply_rope(self.k_proj(x).view(B, T, self.num_kv_heads, self.head_dim).permute(0, 2, 1, 3), angles)
        v = self.v_proj(x).view(B, T, self.num_kv_heads, self.head_dim).permute(0, 2, 1, 3)
        if cache is not None:
            k, v = cache.extend(self.layer, k, v)
        S = k.shape[2]
        if mask is None:
            mask = torch.ones(T, S, dtype=torch.bool, device=x.device).tril(S - T)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=self.num_heads != self.num_kv_heads)
        return self.o_proj(y.permute(0, 2, 1, 3).reshape(B, T, -1))
