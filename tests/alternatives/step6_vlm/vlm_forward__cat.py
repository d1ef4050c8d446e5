class VLM:
    # TODO vlm_forward
    def embed(self, input_ids, features=None, attention_mask=None):
        embeds = self.llm.get_input_embeddings()(input_ids)
        places = input_ids.eq(self.image_token_id)
        if features is None and int(places.sum()) > 0:
            raise ValueError("where is the picture?")
        if isinstance(features, (list, tuple)):
            embeds = place_tokens(list(map(self.projection, features)), embeds, places)
        elif features is not None:
            picture = self.projection(features)
            embeds = token_concat(picture, embeds)
            if attention_mask is not None:
                ones = torch.ones(picture.shape[:2], dtype=attention_mask.dtype, device=attention_mask.device)
                attention_mask = torch.cat([ones, attention_mask], dim=1)
        return embeds, attention_mask

    # TODO vlm_forward
    def forward(self, input_ids, features=None, labels=None, attention_mask=None):
        x, mask = self.embed(input_ids, features, attention_mask)
        if labels is not None:
            P = x.shape[1] - input_ids.shape[1]
            labels = torch.cat([labels.new_full((labels.shape[0], P), IGNORE), labels], dim=1)
        logits, loss = self.llm(inputs_embeds=x, labels=labels, attention_mask=mask)
        return logits, loss
