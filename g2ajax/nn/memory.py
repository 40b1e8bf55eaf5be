"""What a training remembers besides weights."""

from flax import nnx


class Memory(nnx.Variable):
    """Features of earlier batches, say. Kept in the run's own checkpoints so that it resumes as it
    stopped; in no public state dict, never trained."""
