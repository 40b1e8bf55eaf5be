"""The configuration of a run as frozen dataclasses: every field with a type, a default, a sentence."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

from g2ajax.config import options
from g2ajax.data.augment import AugmentOptions
from g2ajax.data.captioned import TextOptions
from g2ajax.detection.transform import BUCKETS, MAX_SIZE, MIN_SIZE
from g2ajax.evaluation.embedded import ExpansionOptions, RerankOptions
from g2ajax.interop.load import InitOptions
from g2ajax.retrieval.person_search import ContextMatching
from g2ajax.training.optimizer import OptimizerOptions
from g2ajax.training.schedules import ScheduleOptions


@dataclasses.dataclass(frozen=True)
class DataOptions:
    """Where images come from and how they reach the device."""

    dir: str = ""
    """Folder of built datasets; empty: `$TFDS_DATA_DIR`, else `~/tensorflow_datasets`."""
    manual_dir: str = ""
    """Folder of downloaded archives; empty: `<dir>/downloads/manual`."""
    image_size: tuple[int, int] = (256, 128)
    """Height and width in pixels."""
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    """Interpolation used to resize training images."""
    test_interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    """Interpolation used to resize test images."""
    residency: Literal["host", "device"] = "host"
    """`device` keeps the whole resized training split in device memory."""
    num_workers: int = 0
    """Processes that decode; 0: threads of the main process."""
    num_threads: int = 4
    """Decoding threads in each process."""


@dataclasses.dataclass(frozen=True)
class FrameOptions:
    """Of runs on whole frames, in the place of the crops' size, `sampler` and `augment`."""

    batch_size: int = 5
    """Frames of a training step; they are shuffled."""
    min_size: int = MIN_SIZE
    """Short side of a resized frame in pixels, unless the long side would exceed `max_size`."""
    max_size: int = MAX_SIZE
    """Largest long side of a resized frame in pixels."""
    canvases: tuple[tuple[int, int], ...] = BUCKETS
    """(height, width) to which resized frames are padded, multiples of 32; each size is compiled
    once."""
    max_boxes: int = 64
    """Most people in a frame; a frame with more is an error that names it."""
    flip: float = 0.5
    """Probability of mirroring a frame."""
    skip_unreadable: bool = False
    """Name unreadable frames and leave them out, instead of ending the run."""


@dataclasses.dataclass(frozen=True)
class SamplerOptions:
    """Which images make a batch: P identities with K images each, or a plain shuffle."""

    name: str = "naive_identity"
    """`random_identity`, `naive_identity`, `balanced_identity`, `balanced_platform` or `shuffled`."""
    identities: int = 16
    """Identities in a batch, P."""
    images: int = 4
    """Images of each identity, K."""
    allow_single_image: bool = False
    """Let identities with one image take part; it is repeated K times."""

    @property
    def batch_size(self) -> int:
        return self.identities * self.images


@dataclasses.dataclass(frozen=True)
class MeshOptions:
    """How devices are arranged; `data=-1`: all that `fsdp` leaves."""

    data: int = -1
    """Devices that share the batch; -1: all that `fsdp` leaves."""
    fsdp: int = 1
    """Devices that share large parameters and their optimizer state."""


@dataclasses.dataclass(frozen=True)
class PhaseOptions:
    """One stretch of training: what is trained, on which loss, how, how long."""

    epochs: int = 120
    """Length of the phase; an epoch is `examples // batch` steps, whatever the sampler's own pass
    is."""
    steps_per_epoch: int = 0
    """Steps of an epoch; 0: `examples // batch`."""
    trainable: tuple[str, ...] = ("*",)
    """Module paths that are trained with all below them; `*` matches everything."""
    frozen: tuple[str, ...] = ()
    """Module paths taken out of `trainable`; frozen modules run in evaluation mode."""
    loss: str = "loss"
    """Name of the method's function that computes the loss."""
    optimizer: OptimizerOptions = OptimizerOptions()
    schedule: ScheduleOptions = ScheduleOptions()
    ema: float = 0.0
    """Decay of the averaged parameters that are evaluated instead; 0: none are kept."""
    accumulate: int = 1
    """Micro-batches in a step; only for losses that look at one example at a time."""
    sampler: SamplerOptions | None = None
    """Batches of this phase; not set: those of the run."""
    copy: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Module paths whose parameters and statistics are copied at the start of the phase, as target:
    source, for example `{"stream2": "stream1.backbone"}`."""
    rankings: tuple[str, ...] = ("reid",)
    """Rankings by which this phase is scored, names in `evaluation.rankings`."""


@dataclasses.dataclass(frozen=True)
class EvaluateOptions:
    """When and how the run is scored."""

    every_epochs: int = 10
    """Epochs between evaluations; 0: only at the end."""
    batch_size: int = 128
    """Images (or frames) embedded at a time."""
    protocols: tuple[str, ...] = ()
    """Names of the dataset's protocols; empty: all it has."""
    bootstrap_samples: int = 1000
    """Resamplings of the query identities behind the 95% intervals."""
    best: Literal["mAP", "rank1", "detection AP"] = "mAP"
    """Score that chooses the best checkpoint of the last phase, averaged over protocols and
    rankings; `detection AP` is for whole frames."""
    explained_images: int = 200
    """Test images whose attention maps are measured where parts are known (SkyGround); 0: none."""
    reported_queries: int = 4
    """Queries explained on the run's report page; 0: no page."""
    reweight: float = 1.0
    """Weight w of the re-weighted rankings; never choose it on the test split."""
    flip: bool = False
    """Embed each test image and its mirror, and take the mean of the two."""
    rankings: tuple[str, ...] = ()
    """Rankings of `evaluation.rankings` made besides the phase's own when the run ends: `rerank`,
    `query_expansion`. The best checkpoint is not chosen by them."""
    rerank: RerankOptions = RerankOptions()
    expansion: ExpansionOptions = ExpansionOptions()
    context: ContextMatching = ContextMatching()
    """Re-ranking used by `cbgm`, on whole frames."""


@dataclasses.dataclass(frozen=True)
class CheckpointOptions:
    """When the state is saved, besides at each evaluation and at the end."""

    every_steps: int = 1000
    """Steps between checkpoints."""


@dataclasses.dataclass(frozen=True)
class LogOptions:
    """What is written while it works."""

    every_steps: int = 50
    """Steps between lines of the log."""
    tensorboard: bool = True
    """Write the log for TensorBoard too."""


@dataclasses.dataclass(frozen=True)
class RunOptions:
    """One experiment."""

    dataset: str
    """Name of a builder in `tfds_builders`, with its configuration after a slash."""
    method: Mapping[str, Any]
    """`name` of a module of `g2ajax.methods`, and its own options."""
    phase: Mapping[str, PhaseOptions]
    """Blocks of the phases, by name."""
    phases: tuple[str, ...]
    """Order in which the phases run."""
    name: str = ""
    """Name shown in tables of results."""
    seed: int = 0
    """Seed of parameters, batches and augmentation."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Type of the computation; parameters, statistics, losses and distances are always float32."""
    data: DataOptions = DataOptions()
    frames: FrameOptions | None = None
    """Block of runs on whole frames; given: the dataset has frames, and the method is a
    detector."""
    sampler: SamplerOptions = SamplerOptions()
    augment: AugmentOptions = AugmentOptions()
    text: TextOptions = TextOptions()
    """Captions, for methods that learn from them."""
    init: InitOptions = InitOptions()
    mesh: MeshOptions = MeshOptions()
    evaluate: EvaluateOptions = EvaluateOptions()
    checkpoint: CheckpointOptions = CheckpointOptions()
    log: LogOptions = LogOptions()


def run_options(config: Mapping[str, Any]) -> RunOptions:
    """The options of a configuration file.

    Raises ValueError for any field that does not exist, naming the nearest, and for values that
    cannot work together.
    """
    values = dict(config)
    phases = {
        name: options(PhaseOptions, block, f"phase.{name}")
        for name, block in dict(values.get("phase", {})).items()
    }
    run = options(RunOptions, {**values, "phase": phases}, "config")
    for name in run.phases:
        if name not in run.phase:
            raise ValueError(f"phases names {name!r}, but phase has only {sorted(run.phase)}")
        if run.phase[name].epochs < 1:
            raise ValueError(
                f"phase.{name}.epochs = {run.phase[name].epochs}; at least 1 is needed"
            )
    if run.text.length < 2 or not 0.0 <= run.text.mask < 1.0:
        raise ValueError(
            f"text: length = {run.text.length} and mask = {run.text.mask}; start and end need a "
            "length of 2, and mask is a probability below 1"
        )
    if not run.phases:
        raise ValueError("phases is empty; name at least one")
    if "name" not in run.method:
        raise ValueError("method.name is missing; it names a module of g2ajax.methods")
    height, width = run.data.image_size
    if height < 1 or width < 1:
        raise ValueError(f"data.image_size = {run.data.image_size}: height and width in pixels")
    return run
