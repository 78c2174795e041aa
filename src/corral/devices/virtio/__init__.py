"""virtio devices: a transport (mmio.py) in front of a device of one kind (blk.py)."""
