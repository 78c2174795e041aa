"""Many guests as one job: what is asked, which process runs them on a host, and an account of each guest."""
