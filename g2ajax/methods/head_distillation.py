"""Head knowledge distillation (Zhang et al., "Ground-to-Aerial Person Search", ACM MM 2023).

A teacher's head, first trained on crops (`head_teacher.py`), takes the same regions as the
student's last head, and losses pull the two together. As in the code, the teacher continues to
learn identities, and gradients of the distillation reach it, too; only the regions' features are
constants for it. Tests do not use it. The student is SeqNet or COAT; the teacher's modules have the
published names, `roi_heads.teacher_head.roi_heads.*` and `roi_heads.teacher_head3.roi_heads.*`.
COAT's teacher of its second head, which no published command enables, is left out.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import jax
from flax import nnx
from jaxtyping import Array, Bool, Float, Key

from g2ajax.config import nearest, options
from g2ajax.config.ranges import NonNegative, Positive
from g2ajax.losses import head_distillation as losses
from g2ajax.losses.oim import OimRows
from g2ajax.methods import DataFacts, coat, seqnet
from g2ajax.methods.faster_rcnn import Terms
from g2ajax.methods.seqnet import InstanceMatching, Regions
from g2ajax.nn.norm_aware import SoftmaxIdentityHead
from g2ajax.nn.regions import Parts


@dataclasses.dataclass(frozen=True)
class Distillation:
    """The teacher's own loss and the terms between the two; defaults: SeqNet on G2APS."""

    matching_weight: NonNegative = 1.0
    """Weight of the teacher's identity loss; 0: the teacher is a constant, tables included."""
    softmax_weight: NonNegative = 0.0
    """Weight of the teacher's identity classifier (COAT only); 0: none."""
    logit_weight: NonNegative = 1.0
    """Weight of the divergence between the logits of the identities; 0: none."""
    logit_temperature: Positive = 2.0
    """Temperature of that divergence."""
    logit_bidirectional: bool = False
    """Add the divergence in the other direction."""
    similarity_weight: NonNegative = 200.0
    """Weight of the loss between the similarities within a batch; 0: none."""
    similarity_temperature: Positive = 4.0
    """Temperature of its divergence."""
    similarity_bidirectional: bool = False
    """Add its divergence in the other direction."""
    similarity_form: Literal["divergence", "distance"] = "divergence"
    """Form of that loss: a divergence of the rows, or a distance of the matrices."""
    feature_weight: NonNegative = 0.0
    """Weight of the distance between the embeddings; 0: none."""
    transfer_weight: NonNegative = 0.0
    """Weight of probabilistic knowledge transfer (Passalis and Tefas, ECCV 2018); 0: none."""


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of the method."""

    student: Mapping[str, Any]
    """`name`, "seqnet" or "coat", and the options of that method."""
    distillation: Distillation = Distillation()


def build(
    config: Mapping[str, Any], facts: DataFacts, *, rngs: nnx.Rngs
) -> "DistilledSeqNet | DistilledCOAT":
    """Builds a student with its teacher.

    Raises ValueError for unknown options, another student, and whatever the trunk refuses.
    """
    method_options = options(Options, config, "method")
    rest = dict(method_options.student)
    name = rest.pop("name", "")
    if name not in STUDENTS:
        raise ValueError(f"method.student.name = {name!r}: {nearest(name, STUDENTS)}")
    method, parent = STUDENTS[name]
    student = options(parent.Options, rest, "method.student")
    return method(student, method_options.distillation, facts, rngs=rngs)


def distillation_terms(
    distillation: Distillation,
    student: Float[Array, "N D"],
    student_rows: OimRows,
    teacher: Float[Array, "N D"],
    teacher_rows: OimRows,
    mask: Bool[Array, " N"],
    classes: int,
) -> Terms:
    """The weighted terms between the embeddings and the table logits of both sides."""
    terms = {}
    if distillation.logit_weight:
        # Uses the lookup tables only: the queues hold different persons.
        terms["distil_logits"] = distillation.logit_weight * losses.logit_divergence(
            student_rows.logits[:, :classes],
            teacher_rows.logits[:, :classes],
            mask,
            temperature=distillation.logit_temperature,
            bidirectional=distillation.logit_bidirectional,
        )
    if distillation.similarity_weight:
        if distillation.similarity_form == "divergence":
            value = losses.similarity_divergence(
                student,
                teacher,
                mask,
                temperature=distillation.similarity_temperature,
                bidirectional=distillation.similarity_bidirectional,
            )
        else:
            value = losses.similarity_distance(student, teacher, mask)
        terms["distil_similarity"] = distillation.similarity_weight * value
    if distillation.feature_weight:
        value = losses.feature_distance(student, teacher, mask)
        terms["distil_features"] = distillation.feature_weight * value
    if distillation.transfer_weight:
        value = losses.probability_transfer(student, teacher, mask)
        terms["distil_transfer"] = distillation.transfer_weight * value
    return terms


class DistilledSeqNet(seqnet.SeqNet):
    """SeqNet with a teacher of its second head. The distillation uses labelled persons only."""

    def __init__(
        self,
        options: seqnet.Options,
        distillation: Distillation,
        facts: DataFacts,
        *,
        rngs: nnx.Rngs,
    ) -> None:
        super().__init__(options, facts, rngs=rngs)
        if distillation.softmax_weight:
            raise ValueError(
                f"distillation.softmax_weight = {distillation.softmax_weight}: SeqNet's teacher has "
                "no identity classifier; give 0, or COAT as the student"
            )
        self.distillation = distillation
        self.classes = facts.num_classes
        parts = seqnet.identity_parts(
            self, options.matching, options.embedding_dim, facts.num_classes, rngs
        )
        self.roi_heads.teacher_head = Parts(roi_heads=Parts(**parts))

    @property
    def teacher(self) -> Parts:
        """The part that a teacher's file fills."""
        return self.roi_heads.teacher_head

    def distil(self, regions: Regions, key: Key[Array, ""]) -> Terms:
        """The teacher's identity loss and the terms between teacher and student."""
        teacher = self.teacher.roi_heads
        pooled = jax.lax.stop_gradient(regions.pooled)
        embedding, _ = teacher.embedding_head(teacher.reid_head(pooled, regions.mask), regions.mask)
        terms, embedding, rows = _taught(self.distillation, teacher.reid_loss, embedding, regions)
        labelled = rows.person & (rows.label != self.unlabelled - 1)
        return terms | distillation_terms(
            self.distillation,
            *(regions.embedding, regions.rows, embedding, rows, labelled, self.classes),
        )


class DistilledCOAT(coat.COAT):
    """COAT with a teacher of its third head. The distillation uses all persons, also those without
    identity."""

    def __init__(
        self, options: coat.Options, distillation: Distillation, facts: DataFacts, *, rngs: nnx.Rngs
    ) -> None:
        super().__init__(options, facts, rngs=rngs)
        self.distillation = distillation
        self.classes, dim = facts.num_classes, options.embedding_dim
        table = InstanceMatching(facts.num_classes, dim, options.matching, self.unlabelled)
        parts = {
            "box_head_3rd": coat.transformer_head(self, options, bypass=True, rngs=rngs),
            "embedding_head_3rd": coat.embedding_head(self, dim, rngs=rngs),
            "reid_loss_3rd": table,
        }
        self.roi_heads.teacher_head3 = Parts(roi_heads=Parts(**parts))
        if distillation.softmax_weight:
            self.roi_heads.softmax_3rd_teacher = SoftmaxIdentityHead(
                dim, facts.num_classes, rngs=rngs
            )

    @property
    def teacher(self) -> Parts:
        """The part that a teacher's file fills."""
        return self.roi_heads.teacher_head3

    def distil(self, regions: Regions, key: Key[Array, ""], draw: coat.Draw) -> Terms:
        """The teacher's identity losses and the terms between teacher and student."""
        teacher = self.teacher.roi_heads
        pooled = jax.lax.stop_gradient(regions.pooled)
        exchanges = draw("teacher_head3", key, regions.mask)
        embedding, _ = teacher.embedding_head_3rd(
            teacher.box_head_3rd(pooled, exchanges), regions.mask
        )
        options = self.distillation
        terms, embedding, rows = _taught(options, teacher.reid_loss_3rd, embedding, regions)
        if options.softmax_weight:
            head = self.roi_heads.softmax_3rd_teacher
            value = coat.softmax_loss(head, embedding, rows)
            terms["teacher_softmax"] = options.softmax_weight * value
        return terms | distillation_terms(
            options, *(regions.embedding, regions.rows, embedding, rows, rows.person, self.classes)
        )


def _taught(
    distillation: Distillation,
    table: InstanceMatching,
    embedding: Float[Array, "N D"],
    regions: Regions,
) -> tuple[Terms, Float[Array, "N D"], OimRows]:
    """The teacher's identity loss, embeddings (constants if it does not learn) and rows."""
    learns = bool(distillation.matching_weight)
    if not learns:
        embedding = jax.lax.stop_gradient(embedding)
    loss, rows = table(embedding, regions.pid, regions.mask, update=learns)
    terms = {"teacher_matching": distillation.matching_weight * loss} if learns else {}
    return terms, embedding, rows


STUDENTS = {"seqnet": (DistilledSeqNet, seqnet), "coat": (DistilledCOAT, coat)}
