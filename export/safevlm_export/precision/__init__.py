"""From the bytes of a float32 graph to those of one with another arithmetic inside: pure functions, a file each.

Inputs and outputs stay as they are. The head, which is everything behind the features, stays float32.
"""
