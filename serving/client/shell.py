"""The blocking clients' public methods, over whatever does one request."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar, overload

from numpy.typing import ArrayLike, NDArray

from serving.client.calls import Calls
from serving.client.core import Fallback
from serving.client.results import Metadata, ModelStatus, Recommendation
from serving.client.steps import Call, Retry, Timed, drive

T = TypeVar("T")
Ids = Sequence[str]


class Shell:
    """Typed calls that block. See `Client` for the arguments."""

    def __init__(
        self,
        model: str,
        version: int | None,
        version_label: str | None,
        rank_model: str | None,
        timeout: float,
        retries: int | Retry,
        fallback: Fallback | None,
    ) -> None:
        self._calls = Calls.on(
            model, version, version_label, rank_model, timeout, retries, fallback
        )

    def _execute(self, step: Timed) -> Any:
        raise NotImplementedError

    def _run(self, call: Call[T]) -> T:
        return drive(call, self._execute)

    @overload
    def recommend(  # type: ignore[overload-overlap]
        self,
        user_id: str,
        k: int = ...,
        *,
        history: Ids | None = ...,
        exclude: Ids | None = ...,
        features: Mapping[str, Any] | None = ...,
        timeout: float | None = ...,
    ) -> list[Recommendation]: ...
    @overload
    def recommend(
        self,
        user_id: Ids,
        k: int = ...,
        *,
        history: Sequence[Ids] | None = ...,
        exclude: Sequence[Ids] | None = ...,
        features: Mapping[str, Any] | None = ...,
        timeout: float | None = ...,
    ) -> list[list[Recommendation]]: ...
    def recommend(
        self,
        user_id: str | Ids,
        k: int = 10,
        *,
        history: Any = None,
        exclude: Any = None,
        features: Mapping[str, Any] | None = None,
        timeout: float | None = None,
    ) -> Any:
        """The best ``k`` items for a user, or for each of several, best first.

        Args:
            user_id: one id, or a sequence of them `[batch]`; unknown and empty ids are fine.
            k: length of a list; fewer come back where fewer items are left.
            history: item ids the user met, oldest first; one list a user for several users.
            exclude: item ids never to answer with; likewise.
            features: raw features by name: for one user a value `[...]`, for several
                `[batch, ...]`. What the signature has and this does not is filled with its default.
            timeout: seconds, instead of the client's own.

        Returns:
            A list of recommendations for one id, a list of such lists for several.

        Raises:
            BadInputError: if an argument is wrong, or the model lacks the input it names.
            ServingError: as the server answers. With a ``fallback``, UNAVAILABLE and
                DEADLINE_EXCEEDED answer that instead, each item ``from_fallback``.
        """
        return self._run(
            self._calls.recommend_one_or_many(user_id, k, history, exclude, features, timeout)
        )

    @overload
    def similar(  # type: ignore[overload-overlap]
        self, item_id: str, k: int = ..., *, timeout: float | None = ...
    ) -> list[Recommendation]: ...
    @overload
    def similar(
        self, item_id: Ids, k: int = ..., *, timeout: float | None = ...
    ) -> list[list[Recommendation]]: ...
    def similar(self, item_id: str | Ids, k: int = 10, *, timeout: float | None = None) -> Any:
        """The ``k`` items most like an item, or like each of several `[batch]`, nearest first.

        Returns and raises as `recommend`.
        """
        return self._run(self._calls.similar_to_one_or_many(item_id, k, timeout))

    def rank(
        self,
        user_id: str,
        items: Ids,
        *,
        features: Mapping[str, Any] | None = None,
        item_features: Mapping[str, Any] | None = None,
        timeout: float | None = None,
    ) -> list[Recommendation]:
        """The given items in the ranking model's order for a user, best first.

        Args:
            user_id: the user.
            items: item ids `[items]`.
            features: of the user or the moment, by name, each `[...]`; the same for every item.
            item_features: of the items, by name, each `[items, ...]`.
            timeout: seconds, instead of the client's own.

        Returns:
            All items, best first; equal scores keep the given order. With a ``fallback`` and the
            server away, the given order, each item ``from_fallback``.
        """
        return self._run(self._calls.rank(user_id, items, features, item_features, timeout))

    def predict(
        self,
        inputs: Mapping[str, ArrayLike],
        signature: str = "serving_default",
        *,
        outputs: Iterable[str] = (),
        cast: bool = True,
        model: str | None = None,
        timeout: float | None = None,
    ) -> dict[str, NDArray[Any]]:
        """Runs a signature on arrays.

        Args:
            inputs: arrays by input name.
            signature: the signature's name.
            outputs: names of the wanted outputs; all by default.
            cast: fit values to the signature's dtypes and check its shapes before sending; False
                sends them as they are, and asks for no metadata.
            model: another model than the client's.
            timeout: seconds, instead of the client's own.

        Returns:
            Arrays by output name; strings as ``bytes`` in object arrays.
        """
        ref = self._calls.ref(model)
        answer = self._run(self._calls.predict(ref, inputs, signature, outputs, cast, timeout))
        return dict(answer.outputs)

    def status(self, model: str | None = None, *, timeout: float | None = None) -> ModelStatus:
        """States of the model's versions."""
        return self._run(self._calls.status(self._calls.ref(model), timeout))

    def wait_ready(self, timeout: float = 60.0, *, model: str | None = None) -> ModelStatus:
        """Blocks until a version answers.

        Raises:
            DeadlineExceededError: if none does in time; the message has the last states.
        """
        return self._run(self._calls.wait_ready(self._calls.ref(model), timeout, 0.1))

    def metadata(self, model: str | None = None, *, timeout: float | None = None) -> Metadata:
        """The model's signatures, asked for anew."""
        return self._run(self._calls.metadata(self._calls.ref(model), timeout))
