"""Classified blocks, kept: memory in front of disk, one computation per key in flight."""
