def train_bpe(pieces, vocab_size):
    ids, counts = [list(piece) for piece in pieces], list(pieces.values())
    merges = []
    for new_id in range(256, vocab_size):
        total = pair_counts(ids, counts)
        if not total:
            break
        best = min(total, key=lambda pair: (-total[pair], pair))
        merges.append(best)
        ids = [merge(piece, best, new_id) for piece in ids]
    return merges
