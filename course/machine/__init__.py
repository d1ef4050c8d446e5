"""The machine under the course, and what is kept on it.

files.py      text and bytes written whole or not at all; backups
setup.py      .venv, and what must be installed; standard library only
installer.py  pip or uv, and which build of torch they bring; standard library only
doctor.py     what is missing on this machine, and how to mend it
host.py       processor, cores, memory; without torch
compute.py    device, number format, seeds, several processes
workers.py    a function at work in several Python processes
artifacts.py  what steps leave on disk
pictures.py   any picture file as RGB
"""
