"""Runners of text retrieval: tokens, masking, losses, metrics."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from g2ajax.data.text import (
    ATTRIBUTE_SENTENCES,
    MaskOptions,
    masked_by,
    sentence_counts,
    sentence_ids,
)
from g2ajax.data.tokenizer import END, MASK, PAD, START, Tokenizer
from g2ajax.losses import elastic_alignment, image_text
from g2ajax.losses.attribute_matching import attribute_matching
from g2ajax.losses.cross_entropy import cross_entropy
from g2ajax.losses.elastic_alignment import aea, over_pairs
from g2ajax.retrieval import evaluate_distances


def run_tokenizer(args, inputs, weights):
    assert (args["start_id"], args["end_id"], args["mask_id"]) == (START, END, MASK)
    assert args["pad_id"] == PAD
    results = {}
    for name, output in args["outputs"].items():
        tokenizer = Tokenizer(output["vocabulary"])
        if output["context_length"] is None:
            ids = [tokenizer.encode(text) for text in inputs["in_captions"]]
            results[name] = np.array([len(row) for row in ids])
        else:
            results[name] = tokenizer(
                inputs["in_captions"], context_length=output["context_length"]
            )
    return results


def _identity_loss(inputs, names, label):
    """The mean of a shared classifier's cross-entropies of two features."""
    weight, bias = (jnp.asarray(inputs[name]) for name in names)

    def loss(x, y):
        return sum(cross_entropy(z @ weight.T + bias[None], label) for z in (x, y)) / 2.0

    return loss


def _value_and_grad(loss, argnums):
    return jax.jit(jax.value_and_grad(loss, argnums=argnums))


def _weighted(weight, loss, *features):
    return weight * loss(*features)


def run_irra_objectives(args, inputs, weights):
    image, text = jnp.asarray(inputs["in_image"]), jnp.asarray(inputs["in_text"])
    identity = jnp.asarray(inputs["in_pid"], jnp.int32)
    results = {}
    for v in args["variants"]:
        out = v["outputs"]
        if v["loss"] == "mlm":
            label = jnp.asarray(inputs[v["labels"]], jnp.int32)
            results[out["loss"]], results[out["grad_logits"]] = jax.value_and_grad(
                functools.partial(image_text.masked_words, ignore=v["ignore_label"])
            )(jnp.asarray(inputs[v["logits"]]), label)
            continue
        if v["loss"] == "sdm":
            options = {"scale": v["logit_scale"], "epsilon": v["epsilon"]}
            if v["image_id"]:
                image_id = jnp.asarray(inputs[v["image_id"]], jnp.int32)
                options |= {"image_id": image_id, "factor": v["factor"]}
            loss = functools.partial(image_text.sdm, identity=identity, **options)
        elif v["loss"] == "cmpm":
            loss = functools.partial(image_text.cmpm, identity=identity, epsilon=v["epsilon"])
        elif v["loss"] == "itc":
            loss = functools.partial(image_text.itc, scale=v["logit_scale"])
        elif v["loss"] == "id":
            both = _identity_loss(inputs, v["classifier"], identity)
            loss = functools.partial(_weighted, v["weight"], both)
        else:
            raise NotImplementedError(f"the loss {v['loss']}")
        value, gradients = _value_and_grad(loss, (0, 1))(image, text)
        results[out["loss"]] = value
        results[out["grad_image"]], results[out["grad_text"]] = gradients
    return results


def _queue(inputs_dim: int, length: int, content: str):
    if not length:
        return None
    if content != "zeros, identity 0":
        raise NotImplementedError(f"a queue that starts with {content}")
    return elastic_alignment.empty_queue(length, inputs_dim)


def _pair_loss(v, inputs, identity):
    scale, epsilon = 1.0 / v["temperature"], v["epsilon"]
    name = v["loss"]
    if name in ("supkl", "supitc"):
        dim = inputs["in_text"].shape[1]
        queue = _queue(dim, v["queue_length"], v.get("queue_content", "zeros, identity 0"))
        return lambda t, a, g: aea(
            *(t, a, g, identity, queue),
            form="divergence" if name == "supkl" else "contrastive",
            scale=scale,
            pair_bonus=v["pair_bonus"],
            epsilon=epsilon,
        )
    if name in ("sdm", "bisdm"):
        two = functools.partial(image_text.sdm, identity=identity, scale=scale, epsilon=epsilon)
    elif name in ("itc", "biitc"):
        two = functools.partial(image_text.itc, scale=scale)
    elif name == "id":
        two = _identity_loss(inputs, v["classifier"], identity)
        # A sum over the views, not their mean.
        return lambda t, a, g: v["weight"] * (two(a, t) + two(g, t))
    else:
        raise NotImplementedError(f"the loss {name}")
    return functools.partial(over_pairs, two, between_views=not name.startswith("bi"))


def run_pair_losses(args, inputs, weights):
    features = [jnp.asarray(inputs[f"in_{name}"]) for name in ("text", "aerial", "ground")]
    identity = jnp.asarray(inputs["in_pid"], jnp.int32)
    results = {}
    for v in args["variants"]:
        loss = _pair_loss(v, inputs, identity)
        value, gradients = _value_and_grad(loss, (0, 1, 2))(*features)
        out = v["outputs"]
        names = [out[f"grad_{name}"] for name in ("text", "aerial", "ground")]
        results |= {out["loss"]: value, **dict(zip(names, gradients, strict=True))}
    return results


def run_aea_queue(args, inputs, weights):
    if set(args["loss_names"].split("+")) != {"supkl", "queue"}:
        raise NotImplementedError(f"losses {args['loss_names']}")
    dim = inputs["in_text_0"].shape[1]
    queue, results = _queue(dim, args["queue_length"], args["initial_queue"]), {}
    loss = functools.partial(
        aea,
        scale=1.0 / args["temperature"],
        pair_bonus=args["pair_bonus"],
        epsilon=args["epsilon"],
    )
    loss = _value_and_grad(loss, (0, 1, 2))
    for k in range(args["steps"]):
        features = [jnp.asarray(inputs[f"in_{n}_{k}"]) for n in ("text", "aerial", "ground")]
        identity = jnp.asarray(inputs[f"in_pid_{k}"], jnp.int32)
        value, gradients = loss(*features, identity, queue)
        queue = elastic_alignment.push(queue, *features, identity)
        results |= {f"out_loss_{k}": value, f"out_queue_pid_{k}": queue.identity}
        for name, gradient in zip(("text", "aerial", "ground"), gradients, strict=True):
            results[f"out_d{name}_{k}"] = gradient
    return results | {
        f"out_queue_{name}_last": getattr(queue, name) for name in ("text", "aerial", "ground")
    }


def run_firm_match(args, inputs, weights):
    features = [jnp.asarray(inputs[f"in_{n}"]) for n in ("aerial", "ground", "sentence")]
    joint = {"dot": "product", "cat": "concatenation"}
    results = {}
    for v in args["variants"]:
        head = [jnp.asarray(inputs[v[name]]) for name in ("weight", "bias")]
        pick = jnp.asarray(inputs[v["pick"]], jnp.int32)

        def loss(aerial, ground, sentence, weight, bias, v=v, pick=pick):
            return args["match_loss_weight"] * attribute_matching(
                lambda x: jnp.matmul(x, weight.T, precision="highest") + bias[None],
                *(aerial, ground, sentence, pick),
                joint=joint[v["mode"]],
            )

        value, gradients = _value_and_grad(loss, tuple(range(5)))(*features, *head)
        out = v["outputs"]
        parts = ("aerial", "ground", "sentence", "weight", "bias")
        names = [out[f"grad_{part}"] for part in parts]
        results |= {out["loss"]: value, **dict(zip(names, gradients, strict=True))}
    return results


def run_retrieval_metrics(args, inputs, weights):
    results, width = {}, args["max_rank"]
    factor = 100.0 if args["percent"] else 1.0
    for case in args["cases"]:
        similarity = inputs[case["similarity"]]
        ids = [inputs[case[f"{side}_pid"]] for side in ("query", "gallery")]
        for name, matrix, sides in (("t2i", similarity, ids), ("i2t", similarity.T, ids[::-1])):
            cameras = [np.zeros(len(side), np.int64) for side in sides]
            found = evaluate_distances(-matrix, *sides, *cameras, drop_same_camera=False)
            known = {"mAP": found.mAP, "mINP": found.mINP}
            scores = [known[s] if s in known else found.rank(int(s[1:])) for s in args["summary"]]
            results[case["outputs"][name]] = factor * np.array(scores)
            results[case["outputs"][f"{name}_cmc"]] = factor * found.cmc[:width]
    return results


def run_mlm_mask(args, inputs, weights):
    fixed = {
        "mask_id": MASK,
        "maskable_ids": [1, MASK - 1],
        "forced_position": 1,
        "ignore_label": 0,
    }
    if any(args[name] != value for name, value in fixed.items()):
        raise NotImplementedError(f"masking other than {fixed}")
    masked = args["replace_with_mask_below"]
    options = MaskOptions(
        args["mask_probability"], masked, args["replace_with_random_below"] - masked
    )
    word = inputs["in_replacement_index"] + args["replacement_first_id"]
    ids, label = masked_by(
        jnp.asarray(inputs["in_uniform"], jnp.float32),
        jnp.asarray(word, jnp.int32),
        jnp.asarray(inputs["in_tokens"], jnp.int32),
        options,
    )
    # The reference masks the caption's own buffer.
    return {"out_tokens": ids, "out_labels": label, "out_caption_ids": ids}


def run_attribute_sentences(args, inputs, weights):
    counts = sentence_counts()
    if [list(row) for row in counts] != args["sentence_counts"]:
        raise NotImplementedError("other sentences")
    flat = [count for row in counts for count in row]
    table = sentence_ids(Tokenizer())
    if args["context_length"] != table.shape[1]:
        raise NotImplementedError(f"a context of {args['context_length']}")
    return {
        "out_ids": table,
        "out_attribute_label": [(a, c) for a, row in enumerate(counts) for c in range(len(row))],
        "out_count": flat,
        "out_offset": np.concatenate([[0], np.cumsum(flat)[:-1]]),
        "out_num_classes": [len(row) for row in ATTRIBUTE_SENTENCES.values()],
    }


RUNNERS = {
    "mlm_mask": run_mlm_mask,
    "attribute_sentences": run_attribute_sentences,
    "clip_tokenizer": run_tokenizer,
    "irra_objectives": run_irra_objectives,
    "pair_losses": run_pair_losses,
    "aea_queue_steps": run_aea_queue,
    "firm_match": run_firm_match,
    "retrieval_metrics": run_retrieval_metrics,
}
