class VLM:
    # TODO vlm_forward
    def embed(self, input_ids, features=None, attention_mask=None):
        # without a mask one that hides nothing
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        text, places = self.llm.get_input_embeddings()(input_ids), input_ids == self.image_token_id
        if features is None:
            if places.any():
                raise ValueError("places and no pictures")
            return text, mask
        if torch.is_tensor(features):
            return token_concat(self.projection(features), text), F.pad(mask, (features.size(1), 0), value=1)
        return place_tokens([self.projection(one) for one in features], text, places), mask

    # TODO vlm_forward
    def forward(self, input_ids, features=None, labels=None, attention_mask=None):
        embeds, mask = self.embed(input_ids, features, attention_mask)
        if labels is not None and torch.is_tensor(features):
            labels = F.pad(labels, (features.size(1), 0), value=IGNORE)
        return self.llm(inputs_embeds=embeds, labels=labels, attention_mask=mask)
