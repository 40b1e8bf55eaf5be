"""Rankings that need the embeddings of a protocol's images and nothing else of a method.

They use all queries and the whole gallery at once, so a query's ranking depends on the other
queries. The field reports them so; they stand in rows of their own.
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Literal

import numpy as np
from jaxtyping import Array, Bool, Float

from g2ajax.config.ranges import Count, Natural, Share
from g2ajax.data.crop_source import KINDS, Dataset
from g2ajax.retrieval import RetrievalResult, evaluate, evaluate_blocks, expand, rerank_blocks
from g2ajax.retrieval.expansion import check_expansion
from g2ajax.retrieval.reranking import check_reranking

EMBEDDED = ("reid", "query_expansion", "rerank", "query_expansion_rerank")


@dataclasses.dataclass(frozen=True)
class RerankOptions:
    """k-reciprocal re-ranking; see `retrieval.rerank`."""

    k1: Count = 20
    """Neighbours that count as near; at most the gallery's size."""
    k2: Count = 6
    """Neighbours whose weights are averaged; 1: no averaging."""
    lambda_value: Share = 0.3
    """Share of the original distance, 0 to 1."""
    variant: Literal["zhong", "fastreid"] = "zhong"
    """`zhong`: the published form; `fastreid`: what fast-reid's evaluator computes."""


@dataclasses.dataclass(frozen=True)
class ExpansionOptions:
    """Average query expansion; see `retrieval.expand`."""

    k: Count = 5
    """Embeddings in each mean, the expanded one included."""
    alpha: Natural = 3
    """Power of the cosine that weights them."""
    times: Count = 1
    """Number of times the expansion is repeated."""


RERANK, EXPANSION = RerankOptions(), ExpansionOptions()


def ranker(
    ranking: str,
    query: Float[Array | np.ndarray, "Q D"],
    gallery: Float[Array | np.ndarray, "G D"],
    *,
    metric: str,
    rerank: RerankOptions = RERANK,
    expansion: ExpansionOptions = EXPANSION,
) -> Callable[..., RetrievalResult]:
    """`retrieval.evaluate` with all arguments bound except the identities, cameras and filter.

    Junk is never a neighbour, as in fast-reid and torchreid, which drop it beforehand.
    """
    expands, reranks = "query_expansion" in ranking, "rerank" in ranking

    def rank(*, junk: Bool[np.ndarray, " G"], **labels) -> RetrievalResult:
        if not (expands or reranks):
            return evaluate(query, gallery, metric=metric, junk=junk, **labels)
        queries, valid = query, ~junk
        entries = np.asarray(gallery)[valid]
        if expands:
            queries, entries = expand(queries, entries, **dataclasses.asdict(expansion))
        if reranks:
            blocks = rerank_blocks(queries, entries, metric=metric, **dataclasses.asdict(rerank))
            return evaluate_blocks(_with_junk(blocks, valid), junk=junk, **labels)
        whole = np.zeros((len(valid), entries.shape[1]), np.float32)
        whole[valid] = entries
        return evaluate(queries, whole, metric=metric, junk=junk, **labels)

    return rank


def _with_junk(
    blocks: Iterable[tuple[slice, np.ndarray]], kept: Bool[np.ndarray, " G"]
) -> Iterator[tuple[slice, np.ndarray]]:
    for rows, block in blocks:
        whole = np.full((len(block), len(kept)), np.inf, np.float32)
        whole[:, kept] = block
        yield rows, whole


def parameters(ranking: str, rerank: RerankOptions, expansion: ExpansionOptions) -> str:
    """Parameters of a ranking, for the tables; "" if it has none."""
    parts = []
    if "query_expansion" in ranking:
        times = f", {expansion.times} times" if expansion.times > 1 else ""
        parts.append(f"k {expansion.k}, alpha {expansion.alpha}{times}")
    if "rerank" in ranking:
        parts.append(
            f"k1 {rerank.k1}, k2 {rerank.k2}, lambda {rerank.lambda_value:g}, {rerank.variant}"
        )
    return "; ".join(parts)


def check(
    dataset: Dataset,
    protocols: Sequence[str],
    rankings: Sequence[str],
    rerank: RerankOptions,
    expansion: ExpansionOptions,
) -> None:
    """Raises ValueError for parameters that a protocol's numbers of images do not allow."""
    for protocol in protocols:
        query, gallery, _ = dataset.protocol(protocol)
        kind = dataset.sides(protocol)[1][1].kind[gallery]
        entries = int((kind != KINDS.index("junk")).sum())
        for name in rankings:
            block = ""
            try:
                if "query_expansion" in name:
                    block = "expansion"
                    check_expansion(len(query), entries, **dataclasses.asdict(expansion))
                if "rerank" in name:
                    block = "rerank"
                    check_reranking(len(query), entries, **dataclasses.asdict(rerank))
            except ValueError as error:
                raise ValueError(
                    f"evaluate.{block} does not fit {dataset.name} {protocol} "
                    f"({len(query)} queries, {entries} gallery images): {error}"
                ) from None
