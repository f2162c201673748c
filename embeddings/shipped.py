"""The embedding models whose weights lie in this package, by the names that they are chosen by.

A name stands for its weights for good, since what was stored goes by it: other weights come under a new name.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

SHIPPED: Mapping[str, Path] = {"magicode-minilm-1": Path(__file__).with_name("model")}
"""Folders of sentence-transformers' layout."""
