"""Weights of other toolboxes, in and out, under their public names."""
