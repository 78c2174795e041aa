"""Where a guest runs and what it sees of its place: the host's topology, a plan by it, and what the guest is told.

host.py reads sysfs, request.py the command line; placement.py makes a plan of both, and nothing but a plan; bind.py
carries it out, guest.py has it in the guest's words, claims.py keeps machines apart; observe/live.py looks what became
of it.
"""
