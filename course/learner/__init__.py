"""A learner's own things: their file, their progress, their numbers.

exercise.py    the untouched text, and reset
progress.py    the status table, hints, explanations
upgrade.py     their code moves into a newer exercise
milestones.py  numbers in the lessons, and where they lay for several seeds
"""
