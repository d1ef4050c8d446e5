def merge(ids, pair, new_id):
    out = []
    skip = False
    for here, after in zip(ids, list(ids[1:]) + [None]):
        if skip:
            skip = False
        elif (here, after) == tuple(pair):
            out.append(new_id)
            skip = True
        else:
            out.append(here)
    return out
