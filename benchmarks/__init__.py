"""What Corral costs, as ratios against a peer or a bare floor in the same run; docs/benchmarks.md has the results."""
