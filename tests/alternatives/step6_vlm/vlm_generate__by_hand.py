class VLM:
    # TODO vlm_generate
    @torch.no_grad()
    def generate(self, input_ids, features=None, attention_mask=None, **options):
        if features is None:
            return self.llm.generate(input_ids, attention_mask=attention_mask, **options)
        text = self.llm.get_input_embeddings()(input_ids)
        if isinstance(features, torch.Tensor):
            x = torch.cat([self.projection(features), text], dim=1)
            if attention_mask is not None:
                seen = attention_mask.new_ones(features.shape[:2])
                attention_mask = torch.cat([seen, attention_mask], dim=1)
        else:
            x = place_tokens([self.projection(f) for f in features], text, input_ids == self.image_token_id)
        return self.llm.generate(inputs_embeds=x, attention_mask=attention_mask, **options)
