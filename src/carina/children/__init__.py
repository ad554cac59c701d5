"""Processes that read what strangers wrote, so that a hostile file ends one of them and not the run.

``process.py`` is the side that asks, ``child.py`` the side that answers, ``wire.py`` what goes between: plain
values and bytes, never a pickle. Knows nothing of films; compiling and scoring each say what is to be done.
"""
