"""What runs a step's train.py: `python3 -m course run`, or the script by itself.

arguments.py  the flags of `run` and of every train.py; standard library only
place.py      preset, seed, code, folder: where a run's artifacts lie, and the command that makes them
job.py        what `train(job)` is handed
script.py     a train.py as a script
fit.py        step 3's loop with a bar and checkpoints; loading what earlier steps left
chat.py       a tokenizer and a chat template put to work
run.py        a process per step, then the report
report.py     report.json and report.html
"""
