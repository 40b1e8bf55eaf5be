"""Speed of a training step: images a second, share of the device's peak, cost on the host.

    python benchmarks/train_step.py --models=resnet50,vit_base --dtypes=float32,bfloat16 --batch=64

Strong baseline (identity + batch-hard triplet), 256 x 128, 751 classes, SGD, augmentation inside the
step. FLOPs are the compiler's count for the step; the peak is that of a large matrix product of the
same dtype in the same run. `resident` trains from images on the device, `fixed` repeats one batch.
If torch and timm can be imported, the same network is timed in PyTorch (AMP for bfloat16) in the
same run. Needs jax, flax, optax, numpy and g2ajax; no grain, TFDS or ml_collections.

    python benchmarks/train_step.py --configs=agreid_bot_r50:skyground,agreid_mgn_r50:skyground

times the methods of configurations at their own image size instead (this needs ml_collections).
"""

import argparse
import importlib.metadata
import importlib.util
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from g2ajax import methods
from g2ajax.data.augment import AugmentOptions, augment
from g2ajax.training.mesh import make_mesh
from g2ajax.training.options import PhaseOptions
from g2ajax.training.state import begin, make_step

SIZE, CLASSES = (256, 128), 751
GROUPS = tuple((f"group {i}", ("yes", "no")) for i in range(15))
"""Attributes, as many as AG-ReID's groups, for methods that learn from them."""


def baseline(backbone: str, remat: bool) -> dict:
    """The options of the strong baseline on a backbone."""
    vit = backbone.startswith("vit")
    return {
        "name": "strong_baseline",
        "backbone": {"name": backbone, "remat": remat},
        "head": {"pool": "Identity" if vit else "GlobalAvgPool"},
    }


def configured(name: str) -> tuple[dict, tuple[int, int]]:
    """The method's options and the image size of a configuration, "agreid_mgn_r50:skyground"."""
    from g2ajax.recipes.files import load

    file, colon, arguments = name.partition(":")
    config = load(f"configs/{file}.py{colon}{arguments}").to_dict()
    return config["method"], tuple(config["data"]["image_size"])


def peak_flops(dtype: str, size: int) -> float:
    """FLOP/s of a `size`-cubed matrix product."""
    x = jax.random.normal(jax.random.key(0), (size, size), jnp.dtype(dtype))
    product = jax.jit(lambda a: a @ a)
    product(x).block_until_ready()
    times = []
    for _ in range(5):
        start = time.perf_counter()
        product(x).block_until_ready()
        times.append(time.perf_counter() - start)
    return 2 * size**3 / min(times)


def measure(
    name: str,
    options: dict,
    size: tuple[int, int],
    dtype: str,
    batch: int,
    steps: int,
    peak: float,
) -> None:
    facts = methods.DataFacts(CLASSES, size, 2, GROUPS, num_platforms=2, dtype=jnp.dtype(dtype))
    model = methods.drawn(options, facts)
    parameters = sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))
    mesh = make_mesh(devices=jax.devices()[:1])
    phase = PhaseOptions()
    optimizer = optax.chain(optax.add_decayed_weights(1e-4), optax.sgd(0.01, momentum=0.9))
    program, leaves = begin(model, phase, optimizer, mesh)
    network = model.preprocessing

    def prepare(key, rows, store):
        image = store[rows["index"]] if "image" not in rows else rows["image"]
        return {**rows, "image": augment(key, image, AugmentOptions(), network.mean, network.std)}

    step = make_step(program, phase, optimizer, prepare, mesh, seed=0)
    rng = np.random.default_rng(0)
    store = jnp.asarray(rng.integers(0, 256, (1024, *size, 3), np.uint8))

    def rows(i: int) -> dict:
        label = np.repeat(np.arange(batch // 4), 4).astype(np.int32)
        draw = np.random.default_rng(i).integers(0, 1024, batch).astype(np.int32)
        attributes = np.zeros((batch, len(GROUPS)), np.int8)
        one = {"label": label, "index": draw, "attributes": attributes}
        return {**one, "camera": label * 0, "platform": label * 0}

    def timed(make) -> tuple[float, float]:
        """Seconds a step, and seconds the host spends in the call."""
        nonlocal leaves
        for i in range(2):
            leaves, metrics = step(leaves, make(i), store)
        jax.block_until_ready(metrics)
        calls, start = [], time.perf_counter()
        for i in range(steps):
            called = time.perf_counter()
            leaves, metrics = step(leaves, make(i), store)
            calls.append(time.perf_counter() - called)
        jax.block_until_ready(metrics)
        return (time.perf_counter() - start) / steps, statistics.median(calls)

    start = time.perf_counter()
    compiled = step.lower(leaves, rows(0), store).compile()
    compile_seconds = time.perf_counter() - start
    cost = compiled.cost_analysis()
    flops = (cost[0] if isinstance(cost, list) else cost)["flops"]
    one = {**rows(0), "image": store[:batch]}
    one = jax.device_put(one)
    fixed, _ = timed(lambda i: one)
    resident, call = timed(rows)
    print(
        f"{name} {dtype} batch {batch} of {size[0]} x {size[1]}, {parameters / 1e6:.2f} M parameters: "
        f"resident "
        f"{batch / resident:.1f} img/s ({1e3 * resident:.1f} ms), fixed batch {batch / fixed:.1f} "
        f"img/s; {flops / 1e9:.1f} GFLOP a step, {100 * flops / resident / peak:.1f}% of "
        f"{peak / 1e12:.2f} TFLOP/s; host call {1e3 * call:.2f} ms; compile {compile_seconds:.0f} s",
        flush=True,
    )


def measure_torch(backbone: str, dtype: str, batch: int, steps: int) -> None:
    import timm
    import torch

    names = {"resnet50": ("resnet50", {}), "vit_base": ("vit_base_patch16_224", {"img_size": SIZE})}
    device = "cuda" if torch.cuda.is_available() else "cpu"
    name, extra = names[backbone]
    torch.backends.cudnn.benchmark = True
    net = timm.create_model(name, num_classes=0, **extra).to(device).train()
    if backbone == "resnet50":  # last stride 1
        net.layer4[0].conv2.stride = net.layer4[0].downsample[0].stride = (1, 1)
    neck = torch.nn.BatchNorm1d(net.num_features).to(device)
    head = torch.nn.Linear(net.num_features, CLASSES, bias=False).to(device)
    parameters = [*net.parameters(), *neck.parameters(), *head.parameters()]
    optimizer = torch.optim.SGD(parameters, lr=0.01, momentum=0.9, weight_decay=1e-4)
    image = torch.randn(batch, 3, *SIZE, device=device)
    label = torch.arange(batch // 4, device=device).repeat_interleave(4)
    same = label[:, None] == label[None]

    def one() -> None:
        with torch.autocast(device, torch.bfloat16, enabled=dtype == "bfloat16"):
            feature = net(image).float()
        logits = head(neck(feature))
        distance = torch.cdist(feature, feature)
        positive = torch.where(same, distance, 0).amax(1)
        negative = torch.where(same, torch.inf, distance).amin(1)
        loss = torch.nn.functional.cross_entropy(logits, label)
        loss = loss + torch.relu(positive - negative + 0.3).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def wait() -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    for _ in range(3):
        one()
    wait()
    start = time.perf_counter()
    for _ in range(steps):
        one()
    wait()
    seconds = (time.perf_counter() - start) / steps
    print(
        f"{backbone} {dtype} batch {batch}: PyTorch {torch.__version__} (timm, eager) "
        f"{batch / seconds:.1f} img/s ({1e3 * seconds:.1f} ms)",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--models", default="resnet50,vit_base")
    parser.add_argument("--configs", default="", help="configurations instead of --models")
    parser.add_argument("--dtypes", default="float32,bfloat16")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--peak_size", type=int, default=8192)
    parser.add_argument("--remat", action="store_true")
    arguments = parser.parse_args()
    versions = [f"{p} {importlib.metadata.version(p)}" for p in ("jax", "flax", "optax")]
    print(f"{jax.devices()[0].device_kind}; {', '.join(versions)}", flush=True)
    has_torch = all(importlib.util.find_spec(name) for name in ("torch", "timm"))
    for dtype in arguments.dtypes.split(","):
        peak = peak_flops(dtype, arguments.peak_size)
        rest = (dtype, arguments.batch, arguments.steps)
        for name in filter(None, arguments.configs.split(",")):
            measure(name, *configured(name), *rest, peak)
        for backbone in () if arguments.configs else arguments.models.split(","):
            name = backbone + " remat" * arguments.remat
            measure(name, baseline(backbone, arguments.remat), SIZE, *rest, peak)
            if has_torch:
                measure_torch(backbone, *rest)


if __name__ == "__main__":
    main()
