from collections import Counter


def pair_counts(pieces, counts):
    total = Counter()
    for number, piece in enumerate(pieces):
        for left, right in zip(piece[:-1], piece[1:]):
            total[left, right] += counts[number]
    return total
