"""The verbs of Upshot as functions; the command line calls nothing else.

`upshot/__init__.py` lists what is public. Each module here is loaded when one of its verbs is first
used, so modules of verbs that need an extra import it at their top.
"""
