def pair_counts(pieces, counts):
    result = {}
    for p in range(len(pieces)):
        for i in range(len(pieces[p]) - 1):
            key = (pieces[p][i], pieces[p][i + 1])
            if key not in result:
                result[key] = 0
            result[key] += counts[p]
    return result
