"""A vCPU's thread, its exits and what they lead to: buses, hooks, interrupt lines, waiting."""
