"""A method of two stages, outside the package: the second trains a classifier on features alone."""

from g2ajax.config import options
from g2ajax.losses.cross_entropy import cross_entropy
from tests.outside_method import Classifier, Options


def build(config, facts, *, rngs):
    """Builds the method."""
    return Probe(options(Options, config, "method"), facts, rngs=rngs)


class Probe(Classifier):
    """The classifier, with a loss of features that were computed once."""

    def feature_loss(self, batch, rngs):
        """The classifier's loss of a batch of features."""
        assert "image" not in batch
        logits = self.classifier(batch["feature"])
        identity = cross_entropy(logits, batch["label"], smoothing=self.smoothing)
        return identity, {"identity": identity}
