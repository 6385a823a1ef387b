"""Which objectives of a multi-task ranker feed which parts of the utility."""

from __future__ import annotations

from tfrec.config.decide import UtilityConfig
from tfrec.config.models import RankingConfig
from tfrec.config.objectives import ObjectiveKind

KIND_OF: dict[str, ObjectiveKind] = {
    "click": "binary",
    "purchase": "binary",
    "rating": "rating",
    "revenue": "spend",
    "profit": "spend",
}
# Goals that a head answers by itself or, without one, a chance of a purchase times a column.
BY_COLUMN = {"revenue": "price", "profit": "margin"}


def heads_of(utility: UtilityConfig, ranking: RankingConfig) -> dict[str, str]:
    """The objective behind each head that there is, by head.

    An objective of a head's own name and kind is taken without being named; ``utility.heads`` names
    others, and null leaves a head out. A ranker of one task has none.

    Raises:
        ValueError: ``utility.heads`` names no objective, or one of another kind.
    """
    objectives = ranking.objectives
    found: dict[str, str] = {}
    for head, kind in KIND_OF.items():
        if head not in utility.heads:
            if head in objectives and objectives[head].kind_of(head) == kind:
                found[head] = head
            continue
        named = utility.heads[head]  # type: ignore[index]
        if named is None:
            continue
        if named not in objectives or objectives[named].kind_of(named) != kind:
            fitting = [n for n, o in objectives.items() if o.kind_of(n) == kind]
            raise ValueError(
                f"utility.heads.{head} names {named!r}, which is none of the {kind} objectives "
                f"{fitting} of ranking.objectives"
            )
        found[head] = named
    return found


def check_goals(utility: UtilityConfig, ranking: RankingConfig, joined: bool = True) -> None:
    """Checks that the ranker and the columns can feed every weighted goal.

    Args:
        utility, ranking: the sections.
        joined: whether this ranker feeds this utility (the recommender is assembled); without, only
            what no ranker could mend is checked.

    Raises:
        ValueError: a goal that nothing feeds, and what would.
    """
    heads = heads_of(utility, ranking)
    for goal, column in BY_COLUMN.items():
        if goal in utility.weights and goal not in heads and getattr(utility, column) is None:
            raise ValueError(
                f"utility: weights.{goal} needs {column!r}, the column of the items table that "
                f"holds it, or an objective of kind 'spend' named {goal!r} (else in utility.heads)"
            )
    if not joined:
        return
    for goal in utility.weights:
        part = "purchase" if goal in BY_COLUMN and goal not in heads else goal
        if part not in KIND_OF or part in heads:
            continue
        single = {"purchase": "binary", "rating": "rating"}.get(part)
        if not ranking.objectives and ranking.task == single:
            continue  # the ranker's one score is it
        has = list(ranking.objectives) or f"one task, {ranking.task!r}"
        raise ValueError(
            f"utility: weights.{goal} needs a ranker that predicts {part!r}; this one has {has}; "
            f"add the {KIND_OF[part]} objective to ranking.objectives (model multi_task), or name "
            f"one that it has in utility.heads"
        )
