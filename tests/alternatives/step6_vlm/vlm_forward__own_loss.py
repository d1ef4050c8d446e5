class VLM:
    # TODO vlm_forward
    def embed(self, input_ids, features=None, attention_mask=None):
        words = F.embedding(input_ids, self.llm.get_input_embeddings().weight)
        at = input_ids == self.image_token_id
        if features is None:
            if at.sum() == 0:
                return words, attention_mask
            raise ValueError("places for pictures, and no pictures")
        if type(features) is list:
            # all pictures of the batch are projected at once
            whole = self.projection(torch.cat(features))
            return place_tokens(whole.split([len(one) for one in features]), words, at), attention_mask
        B, P, _ = features.shape
        if attention_mask is not None:
            whole = attention_mask.new_ones(B, P + attention_mask.shape[1])
            whole[:, P:] = attention_mask
            attention_mask = whole.bool()
        return token_concat(self.projection(features), words), attention_mask

    # TODO vlm_forward
    def forward(self, input_ids, features=None, labels=None, attention_mask=None):
        embeds, mask = self.embed(input_ids, features, attention_mask)
        logits, _ = self.llm(inputs_embeds=embeds, attention_mask=mask)
        if labels is None:
            return logits, None
        P = features.shape[1] if isinstance(features, torch.Tensor) else 0
        targets = torch.full(logits.shape[:2], IGNORE, device=labels.device)
        targets[:, P:] = labels
        guesses, targets = logits[:, :-1], targets[:, 1:]
        counted = targets != IGNORE
        return logits, F.cross_entropy(guesses[counted], targets[counted])
