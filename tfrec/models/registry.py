"""All models by name: a model is one file plus one line here."""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

ModelKind = Literal["retrieval", "ranking", "rating"]


@dataclass(frozen=True)
class ModelSpec:
    """One line of the registry.

    Attributes:
        name: as written in the configuration.
        kind: ``retrieval`` (catalogue scores from users), ``ranking`` (rows of features) or
            ``rating`` (predicts a rating; also recommends by it).
        target: ``module:class`` below ``tfrec.models``.
        paper: the source.
        example: parameters of a sensible configuration.
        many: True of a ranking model that predicts ``ranking.objectives``.
    """

    name: str
    kind: ModelKind
    target: str
    paper: str
    example: dict[str, Any]
    many: bool = False


MODELS: dict[str, ModelSpec] = {
    spec.name: spec
    for spec in (
        ModelSpec("popular", "retrieval", "popular:Popular", "most users first", {}),
        ModelSpec(
            "two_tower",
            "retrieval",
            "two_tower:TwoTower",
            "Yi et al. 2019, RecSys; Kang & McAuley 2018 for the history",
            {"dim": 64, "history_length": 100, "temperature": 0.07},
        ),
        ModelSpec(
            "item_knn",
            "retrieval",
            "item_knn:ItemKNN",
            "Sarwar et al. 2001, WWW",
            {"neighbours": 100, "shrinkage": 10.0},
        ),
        ModelSpec(
            "als",
            "retrieval",
            "als:ALS",
            "Hu et al. 2008; Rendle et al. 2021, arXiv:2110.14037",
            {"dim": 64, "sweeps": 12, "unobserved_weight": 1.0, "l2": 0.003},
        ),
        ModelSpec(
            "mf_logistic",
            "retrieval",
            "mf:LogisticMF",
            "Rendle et al. 2020, arXiv:2005.09683",
            {"dim": 64, "negatives": 8, "l2": 0.005},
        ),
        ModelSpec(
            "mf_bpr",
            "retrieval",
            "mf:BPR",
            "Rendle et al. 2009, arXiv:1205.2618",
            {"dim": 64, "l2": 0.01},
        ),
        ModelSpec(
            "vbpr",
            "retrieval",
            "vbpr:VBPR",
            "He & McAuley 2016, arXiv:1510.01784",
            {"dim": 64, "visual_dim": 20, "l2": 0.01},
        ),
        ModelSpec(
            "gmf",
            "retrieval",
            "ncf:GMF",
            "He et al. 2017, arXiv:1708.05031",
            {"factors": 32, "negatives": 4},
        ),
        ModelSpec(
            "mlp",
            "retrieval",
            "ncf:MLP",
            "He et al. 2017, arXiv:1708.05031",
            {"factors": 16, "layers": 3, "negatives": 4},
        ),
        ModelSpec(
            "neumf",
            "retrieval",
            "ncf:NeuMF",
            "He et al. 2017, arXiv:1708.05031",
            {"factors": 16, "layers": 3, "pretrain": True, "pretrain_epochs": 10, "alpha": 0.5},
        ),
        ModelSpec(
            "sasrec",
            "retrieval",
            "sasrec:SASRec",
            "Kang & McAuley 2018, arXiv:1808.09781; losses: arXiv:2308.07192, arXiv:2309.07602",
            {"dim": 64, "history_length": 100, "layers": 1, "heads": 2, "loss": "softmax"},
        ),
        ModelSpec(
            "gru4rec",
            "retrieval",
            "sasrec:GRU4Rec",
            "Hidasi et al. 2016, arXiv:1511.06939",
            {"dim": 64, "history_length": 50, "layers": 1, "loss": "softmax"},
        ),
        ModelSpec(
            "item2vec",
            "retrieval",
            "item2vec:Item2Vec",
            "Barkan & Koenigstein 2016, arXiv:1603.04259",
            {"dim": 64, "window": 5, "negatives": 15, "exponent": 0.75, "attributes": False},
        ),
        ModelSpec("ease", "retrieval", "ease:EASE", "Steck 2019, arXiv:1905.03375", {"l2": 200.0}),
        ModelSpec(
            "rbm_purchases",
            "retrieval",
            "binary_rbm:PurchaseRBM",
            "Salakhutdinov et al. 2007, ICML",
            {"hidden": 100, "cd": [1, 3, 5], "cd_epochs": 10},
        ),
        ModelSpec(
            "rbm",
            "rating",
            "rbm:RatingRBM",
            "Salakhutdinov et al. 2007, ICML",
            {
                "by": "item",
                "optimizer": "adam",
                "weight_decay": 0.004,
                "row_odds": True,
                "share_levels": True,
                "schedule": "cosine",
            },
        ),
        ModelSpec(
            "autorec",
            "rating",
            "autorec:AutoRec",
            "Sedhain et al. 2015, WWW",
            {"by": "item", "hidden": [500], "l2": 3e-4, "dropout": 0.3, "schedule": "cosine"},
        ),
        ModelSpec(
            "dbn",
            "rating",
            "dbn_rating:DBNRating",
            "Hinton et al. 2006; Hinton & Salakhutdinov 2006",
            {
                "by": "item",
                "hidden": [200],
                "l2": 1e-4,
                "dropout": 0.3,
                "share_levels": True,
                "pretrain_epochs": 5,
                "schedule": "cosine",
            },
        ),
        ModelSpec(
            "cf_nade",
            "rating",
            "nade:CFNADE",
            "Zheng et al. 2016, arXiv:1605.09477",
            {
                "by": "item",
                "hidden": [200],
                "common": True,
                "ordinal": 0.7,
                "l2": 3e-4,
                "least_given": 0.35,
                "schedule": "cosine",
            },
        ),
        ModelSpec(
            "biased_mf",
            "rating",
            "biased_mf:BiasedMF",
            "Koren et al. 2009; Zhou et al. 2008",
            {"dim": 20, "l2": 0.07, "nu": 1.0},
        ),
        ModelSpec(
            "wide_deep",
            "ranking",
            "wide_deep:WideDeep",
            "Cheng et al. 2016, arXiv:1606.07792",
            {"hidden": [256, 128], "deep_learning_rate": 0.01, "unknown_rate": 0.01},
        ),
        ModelSpec("wide", "ranking", "wide_deep:Wide", "its wide part alone", {}),
        ModelSpec(
            "deep",
            "ranking",
            "wide_deep:Deep",
            "its deep part alone",
            {"hidden": [256, 128], "deep_learning_rate": 0.01},
        ),
        ModelSpec(
            "multi_task",
            "ranking",
            "multi_task:MultiTask",
            "Ma et al. 2018, KDD (MMoE); Ma et al. 2018, SIGIR (ESMM); Wang et al. 2019",
            {"hidden": [128, 64], "experts": 4, "towers": [32], "loss_weights": "fixed"},
            many=True,
        ),
    )
}


def spec(name: str) -> ModelSpec:
    """The registry line of a model.

    Raises:
        KeyError: no such model; the message names the nearest.
    """
    if name not in MODELS:
        near = difflib.get_close_matches(name, MODELS, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise KeyError(f"no model {name!r}; {hint}there are {sorted(MODELS)}")
    return MODELS[name]


def check_kind(where: str, name: str, *kinds: ModelKind) -> None:
    """Whether a model is of one of these kinds.

    Args:
        where: in the configuration it is named, for the message.
        name: of the model.
        kinds: that may stand there.

    Raises:
        KeyError: no such model.
        ValueError: it is of another kind; the message names those that are not.
    """
    kind = spec(name).kind
    if kind not in kinds:
        there = sorted(other.name for other in MODELS.values() if other.kind in kinds)
        raise ValueError(f"{where} {name!r} is a {kind} model; there are {there}")


def model_class(name: str) -> type[Any]:
    """The class behind a name; imports its module."""
    module, _, attribute = spec(name).target.partition(":")
    return getattr(importlib.import_module(f"tfrec.models.{module}"), attribute)


def check_params(name: str, params: Iterable[str], where: str = "params") -> None:
    """Whether a model takes parameters of these names.

    Args:
        name: of the model.
        params: names.
        where: in the configuration they stand, for the message.

    Raises:
        KeyError: no such model.
        TypeError: a parameter that it does not take; the message names the known ones.
    """
    known = [
        p.name
        for p in inspect.signature(model_class(name).__init__).parameters.values()
        if p.name not in ("self", "data") and p.kind is not p.VAR_KEYWORD
    ]
    unknown = sorted(set(params) - set(known))
    if unknown:
        raise TypeError(
            f"model {name!r} takes {known}; got {unknown}; mend {where!r} in the config"
        )


def build(name: str, data: Any, params: dict[str, Any] | None = None) -> Any:
    """Builds an untrained model over ``data``.

    Raises:
        KeyError: no such model.
        TypeError: a parameter the model does not take; the message names the known ones.
    """
    params = params or {}
    check_params(name, params)
    return model_class(name)(data, **params)
