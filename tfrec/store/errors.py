"""What can go wrong with a store."""

from __future__ import annotations


class StoreError(ValueError):
    """A rule of the store was broken; the message names it, what arrived and how to mend it."""


class StoreUnavailable(ConnectionError):
    """The store is down or answered too late; what was asked may be asked again."""
