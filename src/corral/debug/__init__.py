"""Stopping a guest and looking into it: breakpoints, steps, disassembly; imported when used."""
