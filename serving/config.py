"""Which models are served: ``ModelServerConfig`` checked once and turned into plain dataclasses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from tensorflow_serving.config import model_server_config_pb2

from serving import textproto
from serving.errors import ServingError, invalid

PLATFORM = "tensorflow"


@dataclass(frozen=True)
class VersionPolicy:
    """Which versions on disk are served.

    Attributes:
        latest: so many of the largest numbers; used unless ``all`` or ``specific`` is set.
        all: every version.
        specific: exactly these.
    """

    latest: int = 1
    all: bool = False
    specific: tuple[int, ...] = ()

    def choose(self, versions: list[int]) -> list[int]:
        """The wanted ones among the versions on disk, ascending."""
        ordered = sorted(set(versions))
        if self.all:
            return ordered
        if self.specific:
            return [version for version in ordered if version in self.specific]
        return ordered[-self.latest :]


@dataclass(frozen=True)
class ModelConfig:
    """One served model: its name, where its versions lie, which are wanted, their labels."""

    name: str
    base_path: str
    policy: VersionPolicy = VersionPolicy()
    labels: Mapping[str, int] = field(default_factory=dict)


def _policy(name: str, proto: object) -> VersionPolicy:
    choice = proto.WhichOneof("policy_choice")  # type: ignore[attr-defined]
    if choice == "all":
        return VersionPolicy(all=True)
    if choice == "specific":
        versions = tuple(proto.specific.versions)  # type: ignore[attr-defined]
        if not versions:
            raise invalid(f"model {name}: model_version_policy specific lists no versions")
        return VersionPolicy(specific=versions)
    latest = proto.latest.num_versions if choice == "latest" else 0  # type: ignore[attr-defined]
    return VersionPolicy(latest=latest or 1)


def models(config: model_server_config_pb2.ModelServerConfig) -> list[ModelConfig]:
    """Checks a whole config.

    Args:
        config: as in ``--model_config_file`` and in a reload request.

    Returns:
        One entry a model, in the config's order.

    Raises:
        ServingError: INVALID_ARGUMENT for a missing list, duplicate names, relative paths, a
            platform other than ``tensorflow``.
    """
    if config.WhichOneof("config") != "model_config_list":
        raise invalid(
            "ServerModelConfig type not supported. Only ModelConfigList is currently supported"
        )
    found: dict[str, ModelConfig] = {}
    for entry in config.model_config_list.config:
        if not entry.name:
            raise invalid("a model in the config list has no name")
        if entry.name in found:
            raise invalid(f"Illegal to list model {entry.name} multiple times in config list")
        if not PurePosixPath(entry.base_path).is_absolute():
            raise invalid(
                f"Expected model {entry.name} to have an absolute path or URI; "
                f"got base_path()={entry.base_path}"
            )
        if entry.model_platform != PLATFORM:
            raise invalid(
                f'model {entry.name}: model_platform is "{entry.model_platform}"; this server '
                f'serves "{PLATFORM}" only'
            )
        found[entry.name] = ModelConfig(
            entry.name,
            entry.base_path,
            _policy(entry.name, entry.model_version_policy),
            dict(entry.version_labels),
        )
    return list(found.values())


def read_models(path: str) -> list[ModelConfig]:
    """Models of a ``--model_config_file``.

    Raises:
        ConfigFileError: naming the file, whatever is wrong with it.
    """
    proto = textproto.read(path, model_server_config_pb2.ModelServerConfig())
    try:
        return models(proto)
    except ServingError as error:
        raise textproto.ConfigFileError(f"{path}: {error.message}") from None
