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
        """As embeddings throughout: what is read is a vector, wherever it came from."""
        embed, cache = self.get_input_embeddings(), KVCache()
        x = embed(input_ids) if inputs_embeds is None else inputs_embeds
        B, T, _ = x.shape
        if attention_mask is not None:
            attention_mask = torch.cat([attention_mask, attention_mask.new_ones(B, max_new_tokens)], dim=1)
        tokens, ended = [], [False] * B
        for n in range(max_new_tokens):
            mask = None if attention_mask is None else attention_mask[:, : T + n]
            logits = self.forward(inputs_embeds=x, attention_mask=mask, cache=cache)[0][:, -1, :]
            if not temperature:
                picked = logits.argmax(dim=-1)
            else:
                picked = sample(logits, uniforms[:, n], temperature, top_k, top_p)
            row = [eos_token_id if done else token for done, token in zip(ended, picked.tolist())]
            tokens.append(row)
            ended = [done or token == eos_token_id for done, token in zip(ended, row)]
            if all(ended):
                break
            x = embed(torch.tensor(row, device=logits.device))[:, None]
        return torch.tensor(tokens, device=x.device).T
