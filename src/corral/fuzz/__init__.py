"""Fuzzing of what runs in a guest, from a checkpoint where it waits for input (docs/fuzz.md); imported when used."""
