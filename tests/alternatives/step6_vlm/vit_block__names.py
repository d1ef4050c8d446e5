class CLIPEncoderLayer:
    # TODO vit_block
    def forward(self, x):
        residual = x
        hidden = self.layer_norm1(x)
        hidden = self.self_attn(hidden)
        hidden = residual + hidden
        residual = hidden
        hidden = self.mlp(self.layer_norm2(hidden))
        return residual + hidden
