"""Formats of files, one reader each: archives, executables, compressed data, disks and file systems."""
