"""Layers: normalisation, pooling, attention, drop path, necks and classifiers."""
