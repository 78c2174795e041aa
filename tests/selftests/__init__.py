"""Linux's own selftests in guests: `python -m tests.selftests`."""
