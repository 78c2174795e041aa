"""From what a person asks for to a machine: which kernel, with which parameters, and what cannot work."""
