"""Engines that read gradients: paths, samples and class activation maps."""
