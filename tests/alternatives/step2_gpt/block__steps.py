class Block:
    def forward(self, x, angles, mask=None, cache=None):
        residual = x
        x = self.input_layernorm(x)
        x = self.self_attn(x, angles=angles, mask=mask, cache=cache)
        x = residual + x
        residual = x
        x = self.mlp(self.post_attention_layernorm(x))
        return residual + x
