"""The section ``ranking.objectives``: what a multi-task ranker predicts, and from which events."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from tfrec.config.base import Frozen

ObjectiveKind = Literal["binary", "rating", "spend"]
USUAL: dict[str, ObjectiveKind] = {
    "click": "binary",
    "purchase": "binary",
    "rating": "rating",
    "revenue": "spend",
}


class Objective(Frozen):
    """One thing to predict of a (user, item) pair.

    Attributes:
        kind: ``binary`` (whether such an event happens), ``rating`` (the mean of ``column``, for
            rows that have one) or ``spend`` (the sum of ``column``, 0 without such an event; what
            is predicted is its expectation). None: by the name, where it is ``click``,
            ``purchase``, ``rating`` or ``revenue``.
        events: kinds of event (column ``event``) that count; None counts all. Whoever buys has
            clicked, too, where the log says so or ``events`` names both.
        column: of the interactions or, where they lack it, of the items: the number that ``rating``
            and ``spend`` read.
        times: a second column that multiplies it, as a quantity does a price.
        given: a binary objective without which this one cannot happen (a purchase needs a click).
            The head then predicts the chance *given* the other, trained through the product over
            all rows (ESMM, Ma et al. 2018); for ``spend`` it is the chance that anything is spent.
        loss_weight: of this objective's loss, where weights are fixed.
    """

    kind: ObjectiveKind | None = None
    events: tuple[str, ...] | None = None
    column: str = "weight"
    times: str | None = None
    given: str | None = None
    loss_weight: float = Field(default=1.0, ge=0, allow_inf_nan=False)

    def kind_of(self, name: str) -> ObjectiveKind:
        """The kind, of this objective under its name.

        Raises:
            ValueError: none is given and the name does not tell.
        """
        kind = self.kind or USUAL.get(name)
        if kind is None:
            raise ValueError(
                f"objectives.{name} needs 'kind' (binary, rating or spend); only the names "
                f"{sorted(USUAL)} tell it by themselves"
            )
        return kind


Objectives = Mapping[str, Objective]


def check_objectives(objectives: Objectives, primary: str | None, task: str) -> None:
    """Checks what the single objectives cannot see.

    Raises:
        ValueError: an unnamed kind, a ``given`` that is no binary objective or goes in a circle, a
            primary objective that is not there or does not fit the task.
    """
    if not objectives:
        if primary is not None:
            raise ValueError(f"'primary' names {primary!r}, but there are no 'objectives'")
        return
    for name, objective in objectives.items():
        if not name.isidentifier() or name == "score":
            raise ValueError(
                f"objectives.{name}: an objective names an output of the model, a word of letters, "
                f"digits and _ that is not 'score'"
            )
        objective.kind_of(name)
        if objective.given is not None:
            chain(objectives, name)
            if objective.kind_of(name) == "rating":
                raise ValueError(
                    f"objectives.{name}: a rating is predicted for the rows that have one; leave "
                    f"'given' out"
                )
    first = primary_of(objectives, primary)
    if first not in objectives:
        raise ValueError(f"'primary' is one of {list(objectives)}; got {first!r}")
    kind = objectives[first].kind_of(first)
    wanted = {"binary": "binary", "rating": "rating"}.get(kind)
    if wanted != task:
        raise ValueError(
            f"the primary objective {first!r} is {kind}, which task {task!r} is not; the primary "
            f"is a binary objective (task binary) or a rating (task rating); mend 'primary' or "
            f"'task'"
        )


def primary_of(objectives: Objectives, primary: str | None) -> str:
    """The objective that is the model's ``score``: as named, else the first."""
    return next(iter(objectives)) if primary is None else primary


def chain(objectives: Objectives, name: str) -> tuple[str, ...]:
    """An objective and what it is given, nearest first.

    Raises:
        ValueError: a member is no binary objective, or stands in it twice.
    """
    found = [name]
    while (given := objectives[found[-1]].given) is not None:
        if given not in objectives or objectives[given].kind_of(given) != "binary":
            binary = [n for n, o in objectives.items() if o.kind_of(n) == "binary"]
            raise ValueError(
                f"objectives.{found[-1]}.given is one of the binary objectives {binary}; got "
                f"{given!r}"
            )
        if given in found:
            raise ValueError(f"objectives.{name}.given goes in a circle: {[*found, given]}")
        found.append(given)
    return tuple(found)
