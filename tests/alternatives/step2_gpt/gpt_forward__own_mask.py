class GPT:
    def forward(self, input_ids=None, inputs_embeds=None, labels=None, attention_mask=None, cache=None):
        x = inputs_embeds if inputs_embeds is not None else self.model.embed_tokens.weight[input_ids]
        B, T, _ = x.shape
        S = T + (cache.length if cache is not None else 0)
        real = torch.ones(B, S, device=x.device) if attention_mask is None else attention_mask
        positions = (real.cumsum(1) - 1).clamp(min=0)[:, S - T :]
        key, query = torch.arange(S, device=x.device), torch.arange(S - T, S, device=x.device)[:, None]
        mask = ((key <= query) & (real[:, None, :] > 0)) | (key == query)
        angles = rope_angles(positions, self.config.head_dim, self.config.rope_theta)
        for layer in self.model.layers:
            x = layer(x, angles, mask[:, None], cache)
        logits = self.lm_head(self.model.norm(x))
        if labels is None:
            return logits, None
        targets = labels[:, 1:].reshape(-1)
        counts = targets != -100
        logp = logits[:, :-1].reshape(-1, logits.shape[-1])[counts].log_softmax(-1)
        return logits, -logp.gather(1, targets[counts][:, None]).mean()
