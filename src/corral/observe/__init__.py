"""Looking at a guest that runs: traces of its exits, profiles, counters; imported when used."""
