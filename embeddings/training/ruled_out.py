"""Repositories on which this project is measured: nothing here is ever trained or tuned on them, nor on a fork of them."""

from __future__ import annotations

RULED_OUT = frozenset(
    [
        "aio-libs/aiohttp",
        "astropy/astropy",
        "bridgecrewio/checkov",
        "dask/dask",
        "django/django",
        "docling-project/docling",
        "ds4sd/docling",
        "flet-dev/flet",
        "fortra/impacket",
        "getmoto/moto",
        "google/jax",
        "huggingface/accelerate",
        "huggingface/diffusers",
        "huggingface/sentence-transformers",
        "huggingface/trl",
        "jax-ml/jax",
        "keras-team/keras",
        "matplotlib/matplotlib",
        "mesonbuild/meson",
        "modin-project/modin",
        "mwaskom/seaborn",
        "pallets/flask",
        "psf/requests",
        "py-pdf/pypdf",
        "pycqa/pylint",
        "pydantic/pydantic",
        "pydata/xarray",
        "pylint-dev/pylint",
        "pytest-dev/pytest",
        "python/mypy",
        "qiskit/qiskit",
        "ranaroussi/yfinance",
        "scikit-learn/scikit-learn",
        "scrapy/scrapy",
        "sphinx-doc/sphinx",
        "spulec/moto",
        "sqlfluff/sqlfluff",
        "sympy/sympy",
        "tobymao/sqlglot",
        "ukplab/sentence-transformers",
        "yt-dlp/yt-dlp",
    ]
)
"""`owner/name` in lower case, with the names that some of them had before."""

_NAMES = frozenset(full.split("/")[1] for full in RULED_OUT) | {
    # known by another name in forks and copies
    "pypdf2",
    "qiskit-terra",
    "youtube-dl",
    "youtube-dlc",
}


def ruled_out(repository: str) -> bool:
    """Whether `owner/name` is one of them, or bears the name of one, as a fork does."""
    return repository.lower() in RULED_OUT or repository.lower().rpartition("/")[2] in _NAMES
