"""Engines of NVIDIA TensorRT, in both of its flavours: built, kept, checked and run."""
