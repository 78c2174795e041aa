"""Disk images: made from nothing, from a folder or from a tar archive, and looked into. No root, no mounting."""
