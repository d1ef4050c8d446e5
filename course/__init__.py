"""What carries the lessons: the list of steps, the checks, the chain, the command line (`python3 -m
course`).
"""
