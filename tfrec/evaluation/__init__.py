"""Evaluation: metrics, protocols, comparisons, reports."""

from __future__ import annotations

from tfrec.evaluation.full_catalogue import evaluate, evaluate_lists, evaluate_models
from tfrec.evaluation.metrics import list_metrics
from tfrec.evaluation.protocol import held_out
from tfrec.evaluation.result import Evaluation

__all__ = [
    "Evaluation",
    "evaluate",
    "evaluate_lists",
    "evaluate_models",
    "held_out",
    "list_metrics",
]
