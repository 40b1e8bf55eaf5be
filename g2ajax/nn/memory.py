"""State that a training keeps besides weights."""

from flax import nnx


class Memory(nnx.Variable):
    """State such as features of earlier batches; never trained.

    It is stored in the run's own checkpoints, so that a run resumes exactly, but in no public state
    dict.
    """
