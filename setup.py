"""Packaging: what tfrec needs, in true ranges, and what each extra adds.

``requirements.txt`` is one resolved set of all of it (see docs/dependencies.md).
"""

from pathlib import Path

from setuptools import find_packages, setup

CORE = [
    "tensorflow>=2.21,<2.22",
    "tf-keras>=2.21,<2.22",
    "tensorflow-recommenders>=0.7.7,<0.8",
    "numpy>=2",
    "scipy>=1.13",
    "pandas>=2,<3",
    "pyarrow>14,<19",
    "pydantic>=2.11,<3",
    "pyyaml>=6",
    "rich>=13",
    "typer>=0.15",
    "pillow>=11",
    "matplotlib>=3.9",
    "jinja2>=3.1.6",
]
SERVING = [
    "tensorflow-serving-api>=2.19.1,<2.22",
    "grpcio>=1.71",
    "prometheus-client>=0.21",
    "aiohttp>=3.11",
]
PIPELINE = [
    "tfx>=1.21,<1.22",
    "tensorflow-transform>=1.21,<1.22",
    "tensorflow-data-validation>=1.16.1,<1.22",
    "tensorflow-model-analysis>=0.52,<0.53",
    "tensorflow-metadata>=1.21,<1.22",
    "ml-metadata>=1.17.1,<1.22",
    "tfx-bsl>=1.21,<1.22",
    "apache-beam>=2.77,<3",
]
KUBEFLOW = ["kfp>=2.6,<2.17", "kfp-pipeline-spec>=2.3,<2.17"]
TEST = [
    "pytest>=8",
    "pytest-timeout>=2.3",
    "pytest-xdist>=3.6",
    "hypothesis>=6.120",
    "ruff>=0.9",
    "mypy>=1.15",
    "types-PyYAML",
    "pandas-stubs",
    "pre-commit>=4",
    "grpcio-tools>=1.71",
    "kubernetes-validate>=1.31",
    "scikit-learn>=1.5",
    "requests>=2.32",
    "cryptography>=44",
    "psutil>=6",
    "selenium>=4.28",
]
STORE = ["lmdb>=1.6", "redis>=5.2"]
EXPLORE = ["starlette>=0.45", "uvicorn>=0.34"]
TUNE = ["optuna>=4.2"]
BENCH = ["implicit>=0.7.3,<0.8", "scikit-learn>=1.5", "psutil>=6", "bm25s>=0.2"]

setup(
    name="tfrec",
    version="0.1.0",
    description="Recommenders on TensorFlow: from a log of purchases to a served answer",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10,<3.14",
    packages=find_packages(
        include=["tfrec", "tfrec.*", "pipelines", "pipelines.*", "serving", "serving.*"]
    ),
    package_data={
        "tfrec": ["py.typed", "evaluation/*.html", "explore/templates/*", "explore/static/*"],
        "serving": ["client/*.proto", "deploy/**/*"],
    },
    install_requires=CORE,
    extras_require={
        "serving": SERVING,
        "pipeline": [*SERVING, *PIPELINE],
        "kubeflow": [*SERVING, *PIPELINE, *KUBEFLOW],
        "tune": TUNE,
        "store": STORE,
        "explore": [*SERVING, *EXPLORE],
        "test": [*TEST, *TUNE, *STORE, *EXPLORE],
        "bench": BENCH,
        "all": [*SERVING, *PIPELINE, *KUBEFLOW, *TUNE, *STORE, *EXPLORE, *TEST, *BENCH],
    },
    entry_points={"console_scripts": ["tfrec=tfrec.cli:main"]},
)
