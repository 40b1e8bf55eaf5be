"""Ranking people: distances, exact metrics. Takes arrays, needs nothing else of g2ajax.

from g2ajax.retrieval import evaluate
result = evaluate(query, gallery, query_identity, gallery_identity, query_camera, gallery_camera)
print(result.mAP, result.rank(1))
"""

from g2ajax.retrieval.distances import METRICS, pairwise
from g2ajax.retrieval.metrics import RetrievalResult, evaluate, evaluate_distances
from g2ajax.retrieval.roc import roc

__all__ = ["METRICS", "RetrievalResult", "evaluate", "evaluate_distances", "pairwise", "roc"]
