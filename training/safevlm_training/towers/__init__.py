"""Frozen vision towers: pixels to patch features at a named layer."""
