"""The same pipeline as a Kubeflow v2 / Vertex AI job: compiled here, submitted by their tools."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tfx.orchestration.kubeflow.v2 import kubeflow_v2_dag_runner as kubeflow

from pipelines.beam_options import beam_args
from pipelines.pipeline import RunSettings, create_pipeline
from tfrec.config import Config


def compile(
    config: Config,
    out: str | Path,
    *,
    root: str | None = None,
    serving: str | None = None,
    image: str | None = None,
    span: int | None = None,
) -> dict[str, Any]:
    """Writes the job of a configuration; the whole configuration travels in it by value.

    Args:
        config: what to do. ``data.path`` must be readable from the cluster.
        out: file that ends in ``.json`` (a Vertex PipelineJob) or ``.yaml`` (a KFP pipeline).
        root: bucket or mounted folder of the artifacts; default ``pipeline.root``.
        serving: bucket or folder that models are pushed to; default ``pipeline.serving``, else
            ``serving`` below the root.
        image: container image with TFX and this package; default TFX's own, which lacks it.
        span: span of the data; None takes the newest at the time of the run.

    Returns:
        The job as it was written.

    Raises:
        ValueError: another ending. ConfigError: Beam options or the schema are wrong.
    """
    out = Path(out)
    if out.suffix not in (".json", ".yaml", ".yml"):
        raise ValueError(f"a job file ends in .json or .yaml; got {out.name!r}")
    base = (root or config.pipeline.root).rstrip("/")
    schema_file = config.pipeline.schema_file
    settings = RunSettings(
        artifacts=f"{base}/artifacts",
        serving=serving or config.pipeline.serving or f"{base}/serving",
        metadata=None,
        beam=beam_args(config.pipeline.beam),
        schema=Path(schema_file).read_text() if schema_file else None,
        span=span,
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    runner = kubeflow.KubeflowV2DagRunner(
        config=kubeflow.KubeflowV2DagRunnerConfig(
            display_name=config.name, default_image=image, use_pipeline_spec_2_1=True
        ),
        output_dir=str(out.parent),
        output_filename=out.name,
    )
    return runner.run(create_pipeline(config, settings), write_out=True)
