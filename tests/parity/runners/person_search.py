"""SeqNet, COAT and their teachers: whole models, in tests and over a training step."""

import dataclasses
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from g2ajax.backbones import resnet
from g2ajax.detection import transform
from g2ajax.detection.options import ProposalOptions, RegionOptions
from g2ajax.interop import families
from g2ajax.interop.state_dict import to_state_dict
from g2ajax.losses.oim import UNLABELLED
from g2ajax.methods import DataFacts, Preprocessing, coat, head_distillation, head_teacher, seqnet
from g2ajax.nn.occluded import Exchange, Exchanges, TransformerHead
from g2ajax.nn.pooling import MaxPool
from g2ajax.tasks.frames import enlargement
from tests.parity.runners.backbones import evaluation, loaded, run
from tests.parity.runners.detection import on_canvas, padded_size

NETWORK = "resnet of the case"
TAKE_ALL = 10**6


def _named(args):
    """The ResNet of the case under a name, for as long as the model is built."""
    depths = (*args["backbone"]["depths"], args.get("head_depth", 1))
    variant = resnet.Variant(args["backbone"]["block"], depths)
    return mock.patch.dict(resnet.VARIANTS, {NETWORK: variant})


def _backbone(args):
    chosen = args["backbone"]
    return {
        "name": NETWORK,
        "pool": MaxPool(**chosen["max_pool"]),
        "stem_relu": chosen["stem_relu"],
        "bn_momentum": args.get("bn_momentum", 0.1),
    }


def _matching(args):
    chosen = args["oim"]
    distilled = args.get("distillation")
    return seqnet.MatchingOptions(
        queue_size=chosen["cq_size"],
        momentum=chosen["momentum"],
        scale=chosen["scalar"],
        overflow="queue_column",
        header_without_target=bool(distilled) and "lw_oim_loss2" in distilled,
    )


def _proposals(args):
    chosen, anchors = args["rpn"], args["anchors"]
    mode = args["mode"]
    assert anchors["stride"] == 16
    return ProposalOptions(
        sizes=tuple(anchors["sizes"]),
        aspect_ratios=tuple(anchors["aspect_ratios"]),
        foreground_iou=chosen["fg_iou"],
        background_iou=chosen["bg_iou"],
        nms=chosen["nms"],
        min_size=chosen["min_size"],
        **{
            f"{'train' if mode == 'train' else 'test'}_pre_nms": chosen["pre_nms_top_n"],
            f"{'train' if mode == 'train' else 'test'}_post_nms": chosen["post_nms_top_n"],
        },
        **({"samples": TAKE_ALL} if chosen.get("sampler") == "take_all" else {}),
    )


def _regions(args):
    chosen = args["roi"]
    if not chosen["bn_neck"]:
        raise NotImplementedError("a box regressor without batch norm")
    if args["mode"] == "train":
        assert chosen["sampler"] == "take_all"
        return RegionOptions(samples=TAKE_ALL, positive_fraction=0.5)
    return RegionOptions(
        score_threshold=chosen["score_threshold"],
        nms=chosen.get("nms_first", chosen.get("nms_stage1")),
        final_nms=chosen["nms_final"],
        min_size=chosen["min_size"],
        max_detections=chosen["detections_per_image"],
    )


def detector_options(args):
    return {
        "backbone": _backbone(args),
        "rpn": _proposals(args),
        "regions": _regions(args),
        # One image on the smallest canvas: the same by either. A batch of two sizes is not.
        "padding": "counted" if args["mode"] == "train" else "masked",
        "embedding_dim": args["oim"]["dims"],
        "matching": _matching(args),
    }


def task_of(args):
    return DataFacts(args["oim"]["lut_size"], (0, 0))


def _loaded(args, weights, family, build):
    rules = families.family(family)
    with _named(args):
        model = loaded(
            build,
            weights,
            rename=rules.rename,
            ignore=rules.ignore,
            allow_missing=rules.allow_missing,
        )
    # The queues' headers are in no state dict.
    for _, module in nnx.iter_modules(model):
        if isinstance(module, seqnet.InstanceMatching):
            module.header.set_value(jnp.asarray(args["oim"]["initial_header"], jnp.int32))
    return model


def frames(args, images, boxes=None, pids=None):
    """A batch as the reference's transform makes one: the smallest canvas that holds all."""
    chosen = args["transform"]
    old = [image.shape[1:] for image in images]
    new = [transform.resized_size(*s, chosen["min_size"], chosen["max_size"]) for s in old]
    canvas = padded_size(new, chosen["size_divisible"])
    batch = {
        "image": jnp.stack(
            [
                255.0 * on_canvas(image, size, canvas)
                for image, size in zip(images, new, strict=True)
            ]
        ),
        "size": jnp.asarray(new, jnp.int32),
    }
    if boxes is not None:
        scaled = [
            jnp.asarray(b * enlargement(n, o)) for b, o, n in zip(boxes, old, new, strict=True)
        ]
        room = max(map(len, boxes))
        pad = [room - len(b) for b in boxes]
        batch["boxes"] = jnp.stack(
            [jnp.pad(b, ((0, n), (0, 0))) for b, n in zip(scaled, pad, strict=True)]
        )
        batch["box_mask"] = jnp.stack([jnp.arange(room) < len(b) for b in boxes])
    if pids is not None:
        labels = [np.where(p == UNLABELLED, -1, p - 1) for p in pids]
        batch["label"] = jnp.stack(
            [jnp.asarray(np.pad(p, (0, n)), jnp.int32) for p, n in zip(labels, pad, strict=True)]
        )
    return batch, np.asarray(old), np.asarray(new), canvas


def preprocessing(args):
    mean, std = (np.asarray(args["transform"][k]) * 255.0 for k in ("image_mean", "image_std"))
    return Preprocessing(tuple(mean.tolist()), tuple(std.tolist()))


def rows(boxes, valid, *others):
    """The valid rows of image 0."""
    valid = np.asarray(valid[0])
    return [np.asarray(x[0])[valid] for x in (boxes, *others)]


def forward(model, batch, query):
    """Everything the evaluation cases look at, in one compilation."""
    graph, state = nnx.split(evaluation(model))

    @jax.jit
    def call(state, batch, query):
        model = nnx.merge(graph, state)
        detected, stages = model.detect_stages(batch)
        return {
            "map": model.maps(batch).features,
            "detected": detected,
            "stages": stages,
            "as_gallery": model.detect(batch, query_boxes=query["boxes"][:, 0]),
            "query": model.embed_queries(query),
        }

    return call(state, batch, query)


def detection_outputs(found, old, new):
    """The outputs that both methods have, boxes in original pixels."""

    def original(boxes):
        return np.asarray(boxes) * enlargement(old[0].tolist(), new[0].tolist())

    results = {}
    for name, d in (("out_", found["detected"]), ("out_asgallery_", found["as_gallery"])):
        boxes, scores, embeddings = rows(d.boxes, d.valid, d.scores, d.embeddings)
        results |= {
            f"{name}boxes": original(boxes),
            f"{name}scores": scores,
            f"{name}embeddings": embeddings,
        }
    proposals = found["stages"].proposals
    results["out_proposals"] = rows(proposals.boxes, proposals.valid)[0]
    for number, kept in enumerate(found["stages"].kept, start=1):
        boxes, scores = rows(kept.boxes, kept.valid, kept.scores)
        results |= {f"out_stage{number}_boxes": boxes, f"out_stage{number}_scores": scores}
    results["out_query_embedding"] = np.asarray(found["query"][0])
    return results


def seqnet_eval(args, inputs, weights):
    model = _seqnet(args, weights, preprocessing=preprocessing(args))
    batch, old, new, canvas = frames(args, [inputs["in_image"]], [inputs["in_gt_box"]])
    found = forward(model, batch, batch)
    res4 = np.asarray(found["map"][0])
    valid = np.asarray(found["stages"].proposals.valid[0])
    return detection_outputs(found, old, new) | {
        "out_canvas_hw": np.asarray(canvas),
        "out_res4_channel_mean": res4.mean((0, 1)),
        "out_res4_spatial_mean": res4.mean(2),
        "out_stage1_logits": np.asarray(found["stages"].logits)[valid],
        "out_stage1_deltas": np.asarray(found["stages"].codes).reshape(-1, 8)[valid],
    }


def training_step(model, batch, terms):
    """Losses, gradients by state-dict name, the stages, and the state dict after the step."""
    graph, params, rest = nnx.split(model, nnx.Param, ...)

    @jax.jit
    def step(params, rest, batch):
        def total(params):
            model = nnx.merge(graph, params, rest, copy=True)
            losses, stages = terms(model, batch)
            return sum(losses.values()), (losses, stages, nnx.state(model, nnx.Not(nnx.Param)))

        return jax.grad(total, has_aux=True)(params)

    gradients, (losses, stages, rest) = step(params, rest, batch)
    after = nnx.merge(graph, params, rest)
    of_params = to_state_dict(nnx.merge(graph, gradients, rest))
    return losses, of_params, stages, after


def training_outputs(args, inputs, weights, model, terms):
    """The outputs that the training cases compare."""
    images = range(args["batch_size"])
    batch, *_ = frames(
        args,
        *([inputs[f"in_{what}_{i}"] for i in images] for what in ("image", "boxes", "pids")),
    )
    losses, gradients, stages, after = training_step(model, batch, terms)
    results = {"out_losses": np.stack([losses[_our_name(name)] for name in args["losses"]])}
    aliases = args.get("weights", {}).get("aliases", {})
    extra = tuple(e["prefix"] for e in args.get("weights", {}).get("extra", []))
    norms, squares = [], 0.0
    for name in weights:
        if extra and name.startswith(extra):
            continue
        ours = name
        for alias, original in aliases.items():
            ours = ours.replace(alias, original)
        if name.endswith(("running_mean", "running_var")) or ours in args["no_gradient"]:
            norms.append(np.nan)
        elif not name.endswith("num_batches_tracked"):
            norms.append(float(np.linalg.norm(gradients[ours].astype(np.float64))))
            squares += norms[-1] ** 2 if ours == name else 0.0
        else:
            norms.append(np.nan)
    results |= {"out_grad_norms": np.asarray(norms), "out_total_grad_norm": np.sqrt(squares)}
    found = stages.proposals
    for i in images:
        results[f"out_rpn_proposals_{i}"] = np.asarray(found.boxes[i])[np.asarray(found.valid[i])]
        for number, samples in enumerate(stages.samples, start=1):
            valid = np.asarray(samples.valid[i])
            results[f"out_stage{number}_boxes_{i}"] = np.asarray(samples.boxes[i])[valid]
            results[f"out_stage{number}_pids_{i}"] = np.asarray(samples.label[i])[valid]
    state = to_state_dict(after)
    for name, wanted in args["outputs"].items():
        source = wanted.get("after_step")
        if source == "queue header":
            results[name] = after.roi_heads.reid_loss.header[...]
        elif isinstance(source, list):
            results[name] = np.concatenate([state[one] for one in source])
        elif source is not None:
            results[name] = state[source]
    return results


# The references' names of losses, where they are not ours behind a prefix.
NAMES = {
    "oim_loss2": "teacher_matching",
    "oim_loss3": "teacher_matching",
    "kd_logits": "distil_logits",
    "kd_logits3": "distil_logits",
    "kd_sim_kl": "distil_similarity",
    "kd_sim_kl3": "distil_similarity",
    "loss_ce_2nd": "softmax_2nd",
    "loss_ce_3rd": "softmax_3rd",
    "loss_ce_3rd_teacher": "teacher_softmax",
}


def _our_name(name):
    return NAMES.get(name, name.removeprefix("loss_").removeprefix("rcnn_"))


def _weights(args, cls):
    """The weights of the student's losses; the others are 0."""
    fields = [field.name for field in dataclasses.fields(cls)]
    given = {_our_name(name): value for name, value in args["loss_weights"].items()}
    return cls(**{name: given.get(name, 0.0) for name in fields})


def _distillation(args):
    chosen = args["distillation"]
    rows = "positives, unlabelled included" if "softmax" in chosen else "labelled positives"
    if rows not in chosen["rows"] or chosen["teacher_outputs_detached"]:
        raise NotImplementedError("other rows, or a detached teacher")
    assert chosen["teacher_input_detached"]
    return head_distillation.Distillation(
        matching_weight=chosen.get("lw_oim_loss2", chosen.get("lw_oim_loss")),
        softmax_weight=chosen.get("softmax", {"weight": 0.0})["weight"],
        logit_weight=chosen["lw_kdlogits"],
        logit_temperature=chosen["logits_temperature"],
        logit_bidirectional=chosen["logits_bidirectional"],
        similarity_weight=chosen["lw_kd_sim_kl"],
        similarity_temperature=chosen["sim_temperature"],
        similarity_bidirectional=chosen["sim_bidirectional"],
        similarity_form="divergence" if chosen.get("sim_use_kl", True) else "distance",
        feature_weight=chosen.get("lw_kdfeat", 0.0),
        transfer_weight=chosen.get("lw_kd_pkt", 0.0),
    )


def _student(args, weights, method, distilled, chosen, family):
    """The method, or where the case distils the one with a teacher."""

    def build(rngs):
        if args.get("distillation"):
            return distilled(chosen, _distillation(args), task_of(args), rngs=rngs)
        return method(chosen, task_of(args), rngs=rngs)

    return _loaded(args, weights, family, build)


def _seqnet(args, values, **options):
    chosen = seqnet.Options(**detector_options(args), **options)
    method, distilled = seqnet.SeqNet, head_distillation.DistilledSeqNet
    return _student(args, values, method, distilled, chosen, "SeqNet")


def _coat(args, values, **options):
    mask = args["use_feature_mask"]
    assert not mask["stage1"] and mask["stage2"] and mask["stage3"]
    chosen = coat.Options(**detector_options(args), **_transformer(args), **options)
    criteria = [e["prefix"] for e in args.get("weights", {}).get("extra", [])]
    values = {
        f"roi_heads.{name}" if name.startswith(tuple(criteria)) else name: value
        for name, value in values.items()
    }
    return _student(args, values, coat.COAT, head_distillation.DistilledCOAT, chosen, "COAT")


def _transformer(args):
    chosen = args["transformer"]
    assert chosen["layers"] == 1
    kernels = tuple(scale["kernel"][0] for scale in chosen["scales"])
    return {"kernels": kernels, "num_heads": chosen["num_heads"]}


def seqnet_train(args, inputs, weights):
    model = _seqnet(
        args, weights, preprocessing=preprocessing(args), weights=_weights(args, seqnet.Weights)
    )
    key = jax.random.key(0)
    return training_outputs(args, inputs, weights, model, lambda m, b: m.terms(b, key))


def _exchange(stripe, order, size):
    """A stripe on an NCHW axis and a given permutation of the rows."""
    axis, index = stripe["axis"], stripe["index"]
    at = jnp.arange(size) == index
    shape = (size, size)
    cells = jnp.broadcast_to(at[:, None] if axis == 2 else at[None, :], shape)
    return Exchange(order, cells)


def _exchanges(chosen, mask, size=14):
    """The case's fixed exchanges: the valid rows in reverse order."""
    assert chosen["permutation"] in ("N-1..0", "n-1..0") and chosen.get("axes", "NCHW") == "NCHW"
    place = jnp.cumsum(mask) - 1
    rows = jnp.argsort(~mask)
    order = jnp.where(mask, rows[jnp.sum(mask) - 1 - place], jnp.arange(len(mask)))
    return Exchanges(
        *(_exchange(chosen[f"{what}_stripe"], order, size) for what in ("token", "bypass"))
    )


def coat_eval(args, inputs, weights):
    chosen = args["roi"]
    assert chosen["nms_stage1"] == chosen["nms_stage2"]
    feature = args["eval_feature"]
    model = _coat(args, weights, preprocessing=preprocessing(args), feature=feature)
    batch, old, new, _ = frames(args, [inputs["in_image"]], [inputs["in_gt_box"]])
    return detection_outputs(forward(model, batch, batch), old, new)


def coat_train(args, inputs, weights):
    model = _coat(
        args,
        weights,
        preprocessing=preprocessing(args),
        iou=tuple(args["roi"]["iou"]),
        weights=_weights(args, coat.Weights),
    )
    mixup = args["mixup"]

    def draw(name, key, mask):
        return _exchanges(mixup["teacher" if name.startswith("teacher") else "students"], mask)

    key = jax.random.key(0)
    return training_outputs(args, inputs, weights, model, lambda m, b: m.terms(b, key, draw))


def transformer_head(args, inputs, weights):
    chosen = args
    kernels = tuple(scale["kernel"][0] for scale in chosen["scales"])
    a, b = jnp.asarray(inputs["in_a"]), jnp.asarray(inputs["in_b"])
    x = jax.nn.relu(jnp.einsum("nck,khw->nhwc", a, b))
    unused = [
        r"\.transblock\.",
        r"\.transformer_encoder\.output_linear\.",
        r"^transformer_encoder\.output_linear",
    ]
    results = {}
    for masked in {wanted["use_feature_mask"] for wanted in args["outputs"].values()}:
        head = loaded(
            lambda rngs, masked=masked: TransformerHead(
                2 * chosen["d_model"],
                bypass=masked,
                kernels=kernels,
                num_heads=chosen["num_heads"],
                rngs=rngs,
            ),
            weights,
            ignore=[*unused, *([] if masked else [r"^conv0\."])],
        )
        for mixed in (False, True):
            exchanges = None
            if mixed:
                exchanges = _exchanges(args["mixup"], jnp.ones(len(x), bool), x.shape[1])
            wanted = {
                name: what["what"]
                for name, what in args["outputs"].items()
                if (what["use_feature_mask"], what["mixup"]) == (masked, mixed)
            }
            if wanted:
                found, _ = run(head, "eval", lambda m, x, e: m(x, e), x, exchanges)
                results |= {name: found[what] for name, what in wanted.items()}
    return results


def reid_teacher(args, inputs, weights):
    of_coat = args["model"] == "coat"
    assert args["labels"] == {"shift": 0, "keep": "label > 0"} and args["pool"]["size"] == 14
    task = DataFacts(args["oim"]["lut_size"], (0, 0))
    chosen = head_teacher.Options(
        backbone=_backbone(args),
        preprocessing=Preprocessing((0.0,) * 3, (1.0,) * 3),
        head=args["model"],
        embedding_dim=args["oim"]["dims"],
        matching=_matching(args),
        matching_weight=args["loss_weight"],
        drop_first_identity=True,
        **(_transformer(args) if of_coat else {}),
    )
    family = "COAT's teacher" if of_coat else "SeqNet's teacher"
    model = _loaded(
        args, weights, family, lambda rngs: head_teacher.HeadTeacher(chosen, task, rngs=rngs)
    )
    quarter = inputs["in_x_quarter"].transpose(0, 2, 3, 1)
    images = jnp.asarray(quarter.repeat(4, axis=1).repeat(4, axis=2))
    label = jnp.asarray(inputs["in_labels"].astype(np.int32))
    exchanges = _exchanges(args["mixup"], label >= 0) if of_coat else None
    embedding, _ = run(model, "eval", lambda m, x: m.embed(x), images)
    terms, after = run(
        model, "train", lambda m, x, e: m.terms({"image": x, "label": label}, e), images, exchanges
    )
    results = {"out_eval_embeddings": embedding, "out_train_loss": terms["matching"]}
    state = to_state_dict(after)
    for name, wanted in args["outputs"].items():
        if "after_step" in wanted:
            results[name] = state[wanted["after_step"]]
    return results


RUNNERS = {
    "seqnet_eval": seqnet_eval,
    "seqnet_train": seqnet_train,
    "coat_eval": coat_eval,
    "coat_train": coat_train,
    "transformer_head": transformer_head,
    "reid_teacher": reid_teacher,
}
