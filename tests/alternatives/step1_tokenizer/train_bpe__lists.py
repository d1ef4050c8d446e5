from collections import Counter, defaultdict


def train_bpe(pieces, vocab_size):
    words = [list(piece) for piece in pieces]
    counts = [pieces[piece] for piece in pieces]
    total, homes, merges = Counter(), defaultdict(set), []
    for number, word in enumerate(words):
        for pair in zip(word, word[1:]):
            total[pair] += counts[number]
            homes[pair].add(number)
    while total and len(merges) < vocab_size - 256:
        most = max(total.values())
        best = min(pair for pair, count in total.items() if count == most)
        new_id = 256 + len(merges)
        merges.append(best)
        for number in list(homes[best]):
            old, new = words[number], merge(words[number], best, new_id)
            for pair in zip(old, old[1:]):
                total[pair] -= counts[number]
                homes[pair].discard(number)
                if not total[pair]:
                    del total[pair]
            for pair in zip(new, new[1:]):
                total[pair] += counts[number]
                homes[pair].add(number)
            words[number] = new
    return merges
