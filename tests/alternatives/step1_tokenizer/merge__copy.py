def merge(ids, pair, new_id):
    copy, i = list(ids), 0
    while i < len(copy) - 1:
        if copy[i] == pair[0] and copy[i + 1] == pair[1]:
            copy[i : i + 2] = [new_id]
        i += 1
    return copy
