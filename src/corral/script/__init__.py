"""Driving a guest from Python (research/python.md); imported when used."""
