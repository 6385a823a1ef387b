"""Beam options from the configuration, checked against what Beam itself knows."""

from __future__ import annotations

import argparse
import difflib
import functools
from collections.abc import Mapping

from apache_beam.options.pipeline_options import PipelineOptions

from tfrec.config import ConfigError

PLUGIN = "pipelines"  # imported first by every worker process; see pipelines.compat


@functools.cache
def known_options() -> dict[str, argparse.Action]:
    """Every option of every Beam runner that is installed, by name without dashes."""
    found: dict[str, argparse.Action] = {}
    for cls in _all_subclasses(PipelineOptions):
        parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
        adder = cls.__dict__.get("_add_argparse_args")
        if adder is None:
            continue
        adder.__get__(None, cls)(parser)
        for action in parser._actions:
            for text in action.option_strings:
                found[text.lstrip("-")] = action
    return found


def _all_subclasses(cls: type) -> list[type]:
    direct: list[type] = cls.__subclasses__()
    return [*direct, *(deeper for sub in direct for deeper in _all_subclasses(sub))]


def beam_args(options: Mapping[str, str | int | bool]) -> list[str]:
    """Command-line options for Beam.

    Args:
        options: ``pipeline.beam`` of the configuration.

    Raises:
        ConfigError: a key that Beam does not know, or a value of the wrong type; all at once.
    """
    known = known_options()
    args, wrong = [], []
    for key, value in options.items():
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else "see docs/pipeline.md"
            wrong.append(f"  pipeline.beam.{key}: no option of Beam; {hint}")
            continue
        action = known[key]
        problem = _problem(action, value)
        if problem:
            wrong.append(f"  pipeline.beam.{key}: {problem} (got {value!r})")
        elif action.nargs == 0:
            if value is True:
                args.append(f"--{key}")
        else:
            args.append(f"--{key}={value}")
    if wrong:
        raise ConfigError(f"{len(wrong)} problem(s) in pipeline.beam\n" + "\n".join(wrong))
    return [*args, f"--beam_plugins={PLUGIN}"]


def _problem(action: argparse.Action, value: str | int | bool) -> str | None:
    """What is wrong with a value, or None."""
    if action.nargs == 0:
        return None if isinstance(value, bool) else "is a switch: true or false"
    if isinstance(value, bool):
        return "takes a value, not true or false"
    if action.type in (int, float):
        try:
            action.type(value)
        except ValueError:
            return "is a number"
    if action.choices is not None and value not in action.choices:
        return f"is one of {list(action.choices)}"
    return None
