"""Status, metadata and Predict as generators of steps (see steps.py), with the signatures cached.

The cache is by version: an answer from another version than the signatures are of makes the next
call ask for that one's; a refused request makes this call ask again and, if they had changed, try
once more. So a version swap with new inputs costs no failed call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from numpy.typing import ArrayLike, NDArray

from serving.client import inputs as fill
from serving.client.errors import (
    BadInputError,
    DeadlineExceededError,
    InvalidRequestError,
    NotFoundError,
    UnavailableError,
)
from serving.client.results import (
    Metadata,
    ModelStatus,
    Prediction,
    Signature,
)
from serving.client.steps import (
    Call,
    Deadline,
    GetMetadata,
    GetStatus,
    ModelRef,
    Pause,
    Predict,
    Retry,
    attempt,
)

Fallback = Sequence[str] | Callable[[str, int], Sequence[str]]
"""Item ids, best first, for when the server is away; or a function of (user or item id, k)."""

_OLD_VERSIONS_KEPT = 8


class Core:
    """The calls on one server that know nothing of recommending, without the transport.

    Args:
        model: the model `recommend`, `similar` and `predict` ask.
        rank_model: the model `rank` asks; ``model`` by default.
        timeout: seconds for one call, all its retries included.
        retries: tries in all while the server is UNAVAILABLE, or a `Retry`.
        fallback: what `recommend` and `similar` answer, flagged, when the server is away.
    """

    def __init__(
        self,
        model: ModelRef,
        rank_model: ModelRef | None = None,
        timeout: float = 1.0,
        retries: int | Retry = 3,
        fallback: Fallback | None = None,
    ) -> None:
        self.model = model
        self.rank_model = rank_model or model
        self.timeout = Deadline(timeout).timeout
        self.retry = retries if isinstance(retries, Retry) else Retry(attempts=retries)
        self.fallback = fallback
        # Signatures by version, and the version that answered last. Only whole entries are put in
        # or taken out, which is safe from several threads.
        self._known: dict[tuple[ModelRef, int | None], Metadata] = {}
        self._newest: dict[ModelRef, Metadata] = {}

    def deadline(self, timeout: float | None) -> Deadline:
        """A deadline from now, the client's own where none is given."""
        return Deadline(self.timeout if timeout is None else timeout)

    # -- what the server knows of itself ---------------------------------------------------------

    def status(self, model: ModelRef, timeout: float | None) -> Call[ModelStatus]:
        return (yield from attempt(GetStatus(model), self.deadline(timeout), self.retry))

    def wait_ready(self, model: ModelRef, timeout: float, every: float) -> Call[ModelStatus]:
        deadline = Deadline(timeout)
        while True:
            try:
                answer: ModelStatus = yield from attempt(GetStatus(model), deadline, self.retry)
                if answer.available:
                    return answer
                why: object = answer.versions
            except (UnavailableError, NotFoundError) as error:
                why = error
            try:
                yield Pause(min(every, deadline.left()))
                deadline.left()
            except DeadlineExceededError:
                raise DeadlineExceededError(
                    f"Model {model.name!r} was not AVAILABLE within {timeout:g} s; last: {why}."
                ) from None

    def metadata(self, model: ModelRef, timeout: float | None) -> Call[Metadata]:
        return (yield from self._fetch(model, self.deadline(timeout)))

    def _fetch(self, model: ModelRef, deadline: Deadline) -> Call[Metadata]:
        found: Metadata = yield from attempt(GetMetadata(model), deadline, self.retry)
        while len(self._known) >= _OLD_VERSIONS_KEPT:
            self._known.pop(next(iter(self._known)), None)
        self._known[model, found.version] = found
        self._newest[model] = found
        return found

    def _note_version(self, model: ModelRef, version: int | None) -> None:
        """After an answer of another version than the signatures are of: use that one's next."""
        newest = self._newest.get(model)
        if version is None or newest is None or newest.version == version:
            return
        known = self._known.get((model, version))
        if known is None:
            self._newest.pop(model, None)  # the next call asks the server
        else:
            self._newest[model] = known

    def _signature(
        self, model: ModelRef, name: str, deadline: Deadline, fresh: bool = False
    ) -> Call[tuple[Signature, bool]]:
        """The signature and whether it was asked for just now."""
        found = None if fresh else self._newest.get(model)
        if found is None or name not in found.signatures:
            found, fresh = (yield from self._fetch(model, deadline)), True
        if name not in found.signatures:
            raise BadInputError(
                f"Model {model.name!r} version {found.version} has the signatures "
                f"{sorted(found.signatures)}; got {name!r}.",
                cure="Ask another model, or export this one with that signature.",
            )
        return found.signatures[name], fresh

    # -- Predict ---------------------------------------------------------------------------------

    def predict_built(
        self,
        model: ModelRef,
        name: str,
        build: Callable[[Signature], Mapping[str, NDArray[Any]]],
        deadline: Deadline,
        outputs: tuple[str, ...] = (),
    ) -> Call[Prediction]:
        """Predict with inputs built from the signature, once more if the signature had changed."""
        known, fresh = yield from self._signature(model, name, deadline)
        try:
            request = Predict(model, name, build(known), outputs, known)
            answer: Prediction = yield from attempt(request, deadline, self.retry)
        except (BadInputError, InvalidRequestError, NotFoundError):
            if fresh:
                raise
            # A new version may have other inputs than the one whose signatures we know.
            changed, _ = yield from self._signature(model, name, deadline, fresh=True)
            if changed == known:
                raise
            request = Predict(model, name, build(changed), outputs, changed)
            answer = yield from attempt(request, deadline, self.retry)
        self._note_version(model, answer.version)
        return answer

    def predict(
        self,
        model: ModelRef,
        values: Mapping[str, ArrayLike],
        signature: str,
        outputs: Iterable[str],
        cast: bool,
        timeout: float | None,
    ) -> Call[Prediction]:
        deadline = self.deadline(timeout)
        wanted = tuple(outputs)
        if not cast:
            arrays = {name: fill.tensors.to_array(value) for name, value in values.items()}
            request = Predict(model, signature, arrays, wanted)
            return (yield from attempt(request, deadline, self.retry))

        def build(known: Signature) -> dict[str, NDArray[Any]]:
            fill.unknown(values, known)
            return {
                name: fill.as_array(name, value, known.inputs[name])
                for name, value in values.items()
            }

        return (yield from self.predict_built(model, signature, build, deadline, wanted))
