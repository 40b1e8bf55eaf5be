"""Ranking people: distances, exact metrics, top-k search, query expansion, re-ranking.

from g2ajax.retrieval import evaluate
result = evaluate(query, gallery, query_identity, gallery_identity, query_camera, gallery_camera)
print(result.mAP, result.rank(1))

Functions of arrays; no other part of g2ajax is needed.
"""

from g2ajax.retrieval.distances import METRICS, pairwise
from g2ajax.retrieval.expansion import expand
from g2ajax.retrieval.metrics import (
    RetrievalResult,
    evaluate,
    evaluate_blocks,
    evaluate_distances,
)
from g2ajax.retrieval.reranking import rerank, rerank_blocks, rerank_distances
from g2ajax.retrieval.roc import roc
from g2ajax.retrieval.search import Neighbours, search
from g2ajax.retrieval.single_shot import single_gallery_shot

__all__ = [
    "METRICS",
    "Neighbours",
    "RetrievalResult",
    "evaluate",
    "evaluate_blocks",
    "evaluate_distances",
    "expand",
    "pairwise",
    "rerank",
    "rerank_blocks",
    "rerank_distances",
    "roc",
    "search",
    "single_gallery_shot",
]
