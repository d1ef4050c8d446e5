class GPT:
    def forward(self, input_ids=None, inputs_embeds=None, labels=None, attention_mask=None, cache=None):
        if inputs_embeds is None:
            inputs_embeds = self.get_input_embeddings()(input_ids)
        B, T = inputs_embeds.shape[:2]
        past = 0
        if cache is not None:
            past = cache.length
        positions, mask = self.positions_and_mask(T, past, attention_mask, inputs_embeds.device)
        angles = rope_angles(positions, self.config.head_dim, self.config.rope_theta)
        hidden = inputs_embeds
        for i in range(len(self.model.layers)):
            hidden = self.model.layers[i](hidden, angles, mask=mask, cache=cache)
        hidden = self.model.norm(hidden)
        logits = hidden @ self.lm_head.weight.T
        loss = None
        if labels is not None:
            shifted = torch.cat([labels[:, 1:], torch.full_like(labels[:, :1], IGNORE)], dim=1)
            loss = nn.CrossEntropyLoss(ignore_index=IGNORE)(logits.transpose(1, 2), shifted)
        return logits, loss
