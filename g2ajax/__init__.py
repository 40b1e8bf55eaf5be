"""g2ajax finds a person across the sky and the ground."""

__version__ = "0.1.0"
