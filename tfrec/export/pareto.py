"""``tfrec pareto``: from a served model and a configuration to a front, a choice and a new file.

Weights are chosen on the validation split; the test split measures the choice once, beside what is
configured and each goal alone.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import tensorflow as tf
import yaml

from tfrec.config import Config
from tfrec.data.splits import split_events
from tfrec.data.tables import Tables
from tfrec.evaluation.beyond import feature_vectors
from tfrec.evaluation.pareto import choose, parse_rule
from tfrec.evaluation.pareto_report import plot, table
from tfrec.evaluation.protocol import HeldOut, Split, held_out
from tfrec.evaluation.tradeoffs import Candidates, Tradeoffs, by_item, taken
from tfrec.evaluation.weight_search import Front, Search, Setting, search
from tfrec.export.batch import BatchRecommender
from tfrec.export.context import held_out_context
from tfrec.export.measure import indices_of
from tfrec.features.fit import fit_encoder, retrieval_data
from tfrec.rerank.calibration_fit import fit_platt
from tfrec.schema import FeatureTable

GOALS = ("purchase", "revenue", "profit")
FRONT, PLOT, TABLE, CHOSEN = "front.json", "front.png", "front.txt", "config.yaml"


@dataclass(frozen=True)
class Chosen:
    """What a search came to.

    Attributes:
        front: on the validation split.
        at: position of the chosen setting.
        test: figures on the test split: ``chosen``, ``configured``, and each goal alone.
        folder: of the plot, the table and the new configuration.
    """

    front: Front
    at: int
    test: dict[str, dict[str, float]]
    folder: Path

    @property
    def setting(self) -> Setting:
        """The chosen weights."""
        return self.front.settings[self.at]


def _numbers(items: pa.Table, name: str, ids: np.ndarray) -> np.ndarray:
    """A numeric column of the items by item index, float32 [n_items + 1]; 0 where unknown."""
    if name not in items.column_names:
        raise ValueError(
            f"utility names the column {name!r} of the items, which have {items.column_names}"
        )
    at = pc.index_in(pa.array(ids, pa.string()), items.column("item_id").combine_chunks())
    column = items.column(name).combine_chunks().take(at)
    values = pc.fill_null(pc.cast(column, pa.float64()), 0.0).to_numpy(zero_copy_only=False)
    return np.nan_to_num(values).astype(np.float32)


class _Data:
    """The splits of canonical tables, encoded by what the re-rankers read."""

    def __init__(self, config: Config, tables: Tables, work: Path) -> None:
        self.tables = tables
        self.splits = split_events(tables.interactions, config.split)
        kinds = ("categorical", "multi", "embedding")
        alike = config.rerank.vectors
        features = FeatureTable(
            features=tuple(
                f
                for f in config.feature_table.of("item", ids=False)
                if f.kind in kinds and (not alike or f.name in alike)
            )
        )
        encoder = fit_encoder(self.splits["train"], tables.users, tables.items, features, work, 0)
        self.encoded = retrieval_data(self.splits, tables.users, tables.items, encoder)
        self.vectors = feature_vectors(self.encoded)

    def known(self, split: Split) -> pa.Table:
        """The events before a split."""
        parts = ["train"] if split == "validation" else ["train", "eval"]
        return pa.concat_tables([self.splits[name] for name in parts])


def _scored(
    model: Path, data: _Data, questions: HeldOut, split: Split, n: int
) -> tuple[np.ndarray, np.ndarray]:
    """Candidates [user, n] (item index, 0 behind) and their scores, by the served model."""
    recommender = BatchRecommender(model, data.known(split), data.tables.users)
    ids = data.encoded.user_ids[questions.users]
    items, scores = [], []
    rows = data.splits["eval" if split == "validation" else split]
    context = held_out_context(rows, data.encoded, questions)
    for _, _, answer in recommender.batches(ids, n, 1024, questions.exclude_seen, context):
        raw = np.char.decode(answer["item_id"].astype(bytes), "utf-8")
        items.append(indices_of(raw, data.encoded.item_ids))
        scores.append(np.where(items[-1] > 0, answer["score"], 0.0))
    return np.concatenate(items), np.concatenate(scores).astype(np.float32)


def tradeoffs(
    config: Config,
    model: Path,
    data: _Data,
    split: Split,
    k: int,
    n: int,
    calibration: Callable[[tf.Tensor], tf.Tensor] | None = None,
) -> tuple[Tradeoffs, Callable[[tf.Tensor], tf.Tensor]]:
    """What measures settings on a split, and the calibration that it used.

    Scores become chances of a purchase by Platt's calibration, fitted on the candidates of this
    split where none is given. Both ``relevance`` and ``p_purchase`` are that chance.
    """
    utility = config.utility
    questions = held_out(data.encoded, split, config.gate.exclude_seen)
    items, scores = _scored(model, data, questions, split, n)
    ids = data.encoded.item_ids
    price = _numbers(data.tables.items, str(utility.price), ids)
    there = items > 0
    if calibration is None:
        label = taken(items, questions)[there].astype(np.float32)
        calibration = fit_platt(scores[there], label)
    chance = np.where(there, calibration(tf.constant(scores)).numpy(), 0.0)
    parts = {"relevance": chance, "p_purchase": chance, "price": by_item(price, items)}
    if utility.margin is not None:
        parts["margin"] = by_item(_numbers(data.tables.items, utility.margin, ids), items)
    method = "none"
    if data.vectors is not None:
        method = config.rerank.method if config.rerank.method in ("mmr", "dpp") else "mmr"
    shown = Candidates(items, parts)
    return Tradeoffs(shown, questions, k, price, data.vectors, method), calibration


def goals_of(config: Config, asked: Sequence[str] = ()) -> list[str]:
    """The goals that can be weighed: purchase, and what the items have columns for.

    Raises:
        ValueError: a goal that cannot be, or no price.
    """
    utility = config.utility
    have = {"purchase": True, "revenue": utility.price, "profit": utility.margin}
    known = [goal for goal in GOALS if have[goal]]
    if utility.price is None:
        raise ValueError(
            "a Pareto front needs to know what a sale brings: name the items' column with "
            "utility.price"
        )
    wrong = [goal for goal in asked if goal not in known]
    if wrong:
        raise ValueError(f"goals to weigh are {known} by the columns configured; got {wrong}")
    return list(asked) or known


def run_pareto(
    config: Config,
    model: str | Path,
    tables: Tables,
    folder: str | Path,
    *,
    k: int = 10,
    candidates: int = 200,
    settings: int = 64,
    method: Search = "sobol",
    objectives: Sequence[str] = (),
    goals: Sequence[str] = (),
    trade_offs: tuple[float, float] = (0.0, 0.6),
    rule: str = "knee",
    seed: int = 0,
    say: Callable[[str], None] = print,
) -> Chosen:
    """Searches weights, plots the front, writes the chosen ones into a copy of the configuration.

    Args:
        config: its sections split, features, utility and rerank are read.
        model: a retrieval SavedModel, or the folder of its versions.
        tables: canonical tables.
        folder: gets ``front.json``, ``front.txt``, ``front.png``.
        k: list length.
        candidates: a user's, by the model's score.
        settings, method, seed: of the search.
        objectives: metrics that make the front; revenue, NDCG and diversity at k by default.
        goals: whose weights are turned; all that can be by default.
        trade_offs: least and largest ``rerank.trade_off``, where items have features to differ in.
        rule: how the point is chosen; see ``tfrec.evaluation.pareto.parse_rule``.
        say: is given lines.

    Raises:
        ValueError: no price, a goal, metric or rule that is not there.
    """
    chosen_by = parse_rule(rule)
    goals = goals_of(config, goals)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as work:
        data = _Data(config, tables, Path(work))
    diverse = data.vectors is not None
    judge, calibration = tradeoffs(config, Path(model), data, "validation", k, candidates)
    wanted = list(objectives) or [f"revenue@{k}", f"ndcg@{k}"]
    if not objectives and diverse:
        wanted.append(f"diversity@{k}")
    nothing: Setting = {**dict.fromkeys(goals, 0.0), "trade_off": 0.0}
    alone = [{**nothing, goal: 1.0} for goal in goals]
    measurable = ("relevance", *goals_of(config))
    configured: Setting = {g: w for g, w in config.utility.weights.items() if g in measurable}
    said = [configured] if any(configured.values()) else []
    configured["trade_off"] = config.rerank.trade_off if config.rerank.method != "none" else 0.0
    front = search(
        judge.measure,
        goals,
        wanted,
        n=settings,
        trade_offs=trade_offs if diverse else (0.0, 0.0),
        method=method,
        scales=_scales(judge, goals),
        seed=seed,
        also=[*alone, *said],
        say=say,
    )
    at = choose(chosen_by, front.metrics, front.points(front.metrics), wanted)
    later, _ = tradeoffs(config, Path(model), data, "test", k, candidates, calibration)
    test = {"chosen": later.measure(front.settings[at])}
    test |= {"configured": later.measure(configured)} if said else {}
    test |= {f"{goal} alone": later.measure(s) for goal, s in zip(goals, alone, strict=True)}
    found = Chosen(front, at, test, folder)
    (folder / FRONT).write_text(json.dumps(_plain(found, rule), indent=1) + "\n")
    (folder / TABLE).write_text(table(front, at) + "\n")
    (folder / PLOT).write_bytes(plot(front, at))
    return found


def _scales(judge: Tradeoffs, goals: Sequence[str]) -> dict[str, float]:
    """Factors that give each goal's part the same mean over the candidates."""
    parts, there = judge.candidates.parts, judge.candidates.items > 0
    chance = parts["p_purchase"]
    mean = {"purchase": chance, "revenue": chance * parts["price"]}
    if "margin" in parts:
        mean["profit"] = chance * parts["margin"]
    return {goal: 1.0 / max(abs(float(mean[goal][there].mean())), 1e-12) for goal in goals}


def _plain(found: Chosen, rule: str) -> dict[str, Any]:
    best = found.front.best
    rows = zip(found.front.settings, found.front.figures, best, strict=True)
    return {
        "objectives": found.front.objectives,
        "hypervolume": found.front.hypervolume(),
        "rule": rule,
        "chosen": found.at,
        "settings": [{"setting": s, "figures": f, "non_dominated": bool(b)} for s, f, b in rows],
        "test": found.test,
    }


def write_choice(source: str | Path, setting: Mapping[str, float], out: str | Path) -> Path:
    """Writes a copy of a configuration with the chosen weights.

    Comments stay but for those inside the sections ``utility`` and ``rerank``, which are written
    anew. The weights are scaled so that the largest is 1: only proportions order a list.

    Args:
        source: the YAML file.
        setting: goal -> weight, and ``trade_off``.
        out: the new file.

    Returns:
        ``out``.
    """
    text = Path(source).read_text(encoding="utf-8")
    values = yaml.safe_load(text)
    weights = {goal: float(w) for goal, w in setting.items() if goal != "trade_off"}
    largest = max(map(abs, weights.values())) or 1.0
    kept = {goal: float(f"{w / largest:.6g}") for goal, w in weights.items()}
    sections = {"utility": {**(values.get("utility") or {}), "weights": kept}}
    trade_off = float(f"{setting.get('trade_off', 0.0):.6g}")
    rerank = dict(values.get("rerank") or {})
    if trade_off > 0 and rerank.get("method", "none") == "none":
        rerank["method"] = "mmr"
    if rerank:
        # Worths were put on 0..1 when trade-offs were measured.
        sections["rerank"] = {**rerank, "trade_off": trade_off, "normalise": True}
    for name, section in sections.items():
        text = _replaced(text, name, section)
    out = Path(out)
    out.write_text(text, encoding="utf-8")
    return out


def _replaced(text: str, name: str, section: Mapping[str, Any]) -> str:
    """The file with one top-level section written anew, or added at the end."""
    body = yaml.safe_dump({name: dict(section)}, sort_keys=False, default_flow_style=False)
    lines = text.splitlines(keepends=True)
    starts = [i for i, line in enumerate(lines) if line.startswith(f"{name}:")]
    if not starts:
        return text + ("" if text.endswith("\n") else "\n") + body
    start = stop = starts[0]
    stop += 1
    # A section lasts while lines are indented; blank lines and comments behind it stay.
    end = stop
    while stop < len(lines) and (lines[stop][0] in " \t\n" or lines[stop].startswith("#")):
        stop += 1
        if lines[stop - 1][0] in " \t" and lines[stop - 1].strip():
            end = stop
    return "".join([*lines[:start], body, *lines[end:]])
