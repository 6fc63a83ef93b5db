"""Engines of TensorRT for a bundle, and the kit with which others are built where the GPU is."""
