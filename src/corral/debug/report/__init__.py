"""What there is to say about a guest that died, or is paused: screen.py in one screen, full.py in full."""
