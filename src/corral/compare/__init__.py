"""corral compare: what virtualization costs on this machine, against a native process, containers and other VMMs.

`experiment.py` runs everything; `contenders/` are who is measured, `measures/` what. A boot imports
nothing of it.
"""
