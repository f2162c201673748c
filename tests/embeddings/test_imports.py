"""A file's imports lead to files of the same tree, in each language by its own rules."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embeddings.imports import Modules

TREE = Modules(
    [
        "src/shop/__init__.py", "src/shop/prices.py", "src/shop/mail/__init__.py", "src/shop/mail/post.py", "tests/test_prices.py",
        "web/app.js", "web/cart/index.ts", "web/cart/item.tsx", "go/pkg/store/store.go", "go/pkg/store/store_test.go", "go/main.go",
        "java/com/acme/Shop.java", "java/com/acme/Till.java", "rust/src/lib.rs", "rust/src/till.rs", "rust/src/till/coin.rs", "lib/a/till.rb", "lib/main.rb",
    ]
)  # fmt: skip


@pytest.mark.parametrize(
    ("path", "text", "expected"),
    [
        ("tests/test_prices.py", "from shop.prices import total", {"src/shop/prices.py"}),
        ("tests/test_prices.py", "import shop.mail.post as post, os", {"src/shop/mail/post.py"}),
        ("tests/test_prices.py", "from shop.mail import post", {"src/shop/mail/__init__.py", "src/shop/mail/post.py"}),
        ("src/shop/prices.py", "from .mail.post import send", {"src/shop/mail/post.py"}),
        ("src/shop/prices.py", "from . import mail", {"src/shop/mail/__init__.py"}),
        ("src/shop/mail/post.py", "from .. import prices", {"src/shop/prices.py"}),
        ("src/shop/mail/post.py", "from ..prices import (\n    total,\n    tax,\n)", {"src/shop/prices.py"}),
        ("src/shop/prices.py", "import os\nfrom decimal import Decimal", set()),
        ("web/app.js", "import {cart} from './cart'", {"web/cart/index.ts"}),
        ("web/app.js", "const item = require('./cart/item')", {"web/cart/item.tsx"}),
        ("web/cart/index.ts", 'import "../app.js"', {"web/app.js"}),
        ("go/main.go", 'import (\n\t"fmt"\n\t"example.com/go/pkg/store"\n)\n', {"go/pkg/store/store.go"}),
        ("java/com/acme/Shop.java", "import com.acme.Till;\nimport java.util.List;", {"java/com/acme/Till.java"}),
        ("rust/src/lib.rs", "mod till;\nuse crate::till::coin;", {"rust/src/till.rs", "rust/src/till/coin.rs"}),
        ("lib/main.rb", "require_relative 'a/till'", {"lib/a/till.rb"}),
        ("README.md", "from shop.prices import total", set()),
    ],
)  # fmt: skip
def test_imports_lead_to_files(path, text, expected):
    assert TREE.imported(path, text) == expected


@pytest.mark.parametrize(
    ("dotted", "expected"),
    [
        ("shop.prices.total", ["src/shop/prices.py"]),
        ("shop.mail", ["src/shop/mail/__init__.py"]),
        ("prices", []),
        ("other.prices", []),
        ("", []),
    ],
)
def test_dotted_names_lead_to_files(dotted, expected):
    assert TREE.named(dotted) == expected


@pytest.mark.parametrize("suffix", ["py", "js", "go", "java", "rs", "rb"])
@pytest.mark.parametrize(
    "part",
    ["import ", "from a", "from . import (", "require('", 'import "', "use crate::", "mod a", " ", "\n", "."],
)
def test_a_hostile_file_is_read_at_once(suffix, part):
    began = time.thread_time()
    TREE.imported(f"a.{suffix}", part * (400_000 // len(part)))
    assert time.thread_time() - began < 3


@given(st.text(max_size=200), st.sampled_from(["a.py", "b/c.js", "d.go", "e.rs", "f.java", "g.rb"]))
@settings(deadline=None)
def test_only_files_of_the_tree_are_imported(text, path):
    assert all(isinstance(found, str) for found in Modules(["a.py", "b/c.js"]).imported(path, text))
