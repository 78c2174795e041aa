"""What a Corral that runs a guest may still ask of the host's kernel: table.py says it, confine.py makes it so."""
