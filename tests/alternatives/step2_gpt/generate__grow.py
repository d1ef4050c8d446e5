class GPT:
    @torch.no_grad()
    def generate(
        self,
        input_ids=None,
        inputs_embeds=None,
        attention_mask=None,
        max_new_tokens=20,
        eos_token_id=None,
        temperature=0.0,
        top_k=None,
        top_p=None,
        uniforms=None,
    ):
        cache = KVCache()
        logits, _ = self(input_ids=input_ids, inputs_embeds=inputs_embeds, attention_mask=attention_mask, cache=cache)
        new = torch.empty(logits.shape[0], 0, dtype=torch.long, device=logits.device)
        ended = torch.zeros(logits.shape[0], dtype=torch.bool, device=logits.device)
        while new.shape[1] < max_new_tokens:
            last = logits[:, -1]
            if temperature > 0:
                token = sample(last, uniforms[:, new.shape[1]], temperature=temperature, top_k=top_k, top_p=top_p)
            else:
                token = last.max(-1).indices
            if eos_token_id is not None:
                token[ended] = eos_token_id
                ended |= token == eos_token_id
            new = torch.cat([new, token[:, None]], dim=1)
            if ended.all():
                break
            if attention_mask is not None:
                attention_mask = torch.cat([attention_mask, torch.ones_like(attention_mask[:, :1])], dim=1)
            logits, _ = self(token[:, None], attention_mask=attention_mask, cache=cache)
        return new
