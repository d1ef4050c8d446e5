"""How things look: in a notebook, in a terminal, on a page.

plots.py  one quiet look for every plot
cards.py  a card under a cell of a notebook, text elsewhere
html.py   pages that need no other file, from templates/; plots for light paper and dark
"""
