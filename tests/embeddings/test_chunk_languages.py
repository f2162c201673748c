"""Each language is cut where its reader would cut it."""

from __future__ import annotations

import itertools
import re
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embeddings.chunk import chunk, text_of
from embeddings.languages import definitions

SAMPLES = {
    "shop.ts": (
        """import { Fruit } from "./fruit";

/** A basket. */
@Injectable()
export class Basket<T extends Fruit> extends Base implements Countable {
  private held: T[] = [];

  constructor(private readonly size: number) {
    super();
  }

  // Puts one in.
  add(fruit: T): void {
    this.held.push(fruit);
  }

  onChange = (event: Event) => {
    this.emit(event);
  };
}

export interface Countable {
  count(): number;
}

export type Name = string | null;

export enum Kind {
  Wicker,
}

namespace Prices {
  export function of(fruit: Fruit): number {
    return 1;
  }
}

export const total = async (basket: Basket<Fruit>): Promise<number> => {
  return 1;
};

export default function main() {}
""",
        [
            (1, 1, ""),
            (3, 6, "Basket"),
            (8, 10, "Basket.constructor"),
            (12, 15, "Basket.add"),
            (17, 20, "Basket.onChange"),
            (22, 24, "Countable"),
            (26, 26, "Name"),
            (28, 30, "Kind"),
            (32, 32, "Prices"),
            (33, 36, "Prices.of"),
            (38, 40, "total"),
            (42, 42, "main"),
        ],
    ),
    "shop.tsx": (
        """import React from "react";

export const Basket = React.memo(({ fruit }: Props) => {
  return <ul>{fruit.map((one) => <li key={one}>{one}</li>)}</ul>;
});

export default () => <Basket fruit={[]} />;
""",
        [
            (1, 1, ""),
            (3, 5, "Basket"),
            (7, 7, "default"),
        ],
    ),
    "shop.js": (
        """"use strict";
const fs = require("fs");

// Sums.
function total(basket) {
  return basket.length;
}

Basket.prototype.add = function (fruit) {
  this.held.push(fruit);
};

module.exports.open = async () => {};

const api = {
  get(id) {
    return id;
  },
  put: (id) => id,
};

module.exports = {
  name: "shop",
  close: function () {},
};

(function () {
  function hidden() {}
})();

describe("basket", () => {
  beforeEach(() => {});

  it("is empty", () => {
    expect(total([])).toBe(0);
  });
});
""",
        [
            (1, 2, "fs"),
            (4, 7, "total"),
            (9, 11, "Basket.add"),
            (13, 13, "open"),
            (15, 15, "api"),
            (16, 18, "api.get"),
            (19, 20, "api.put"),
            (22, 23, "exports"),
            (24, 25, "exports.close"),
            (27, 27, ""),
            (28, 29, "hidden"),
            (31, 32, "basket"),
            (34, 37, "basket.is empty"),
        ],
    ),
    "shop.go": (
        """// Package shop sells.
package shop

import "fmt"

const rate = 3

type (
	// Fruit is sold.
	Fruit struct {
		Name string
	}
	Seller interface {
		Sell() error
	}
)

// Basket holds fruit.
type Basket[T any] struct {
	held []T
}

// Add puts one in.
func (b *Basket[T]) Add(fruit T) {
	b.held = append(b.held, fruit)
}

func total() int {
	return 1
}
""",
        [
            (1, 6, "rate"),
            (8, 12, "Fruit"),
            (13, 16, "Seller"),
            (18, 21, "Basket"),
            (23, 26, "Basket.Add"),
            (28, 30, "total"),
        ],
    ),
    "shop.rs": (
        """//! A shop.
use std::fmt;

/// Holds fruit.
#[derive(Debug)]
pub struct Basket<T> {
    held: Vec<T>,
}

impl<T: Fruit> Basket<T> {
    /// Puts one in.
    pub fn add(&mut self, fruit: T) {
        self.held.push(fruit);
    }
}

impl<T> fmt::Display for Basket<T> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        Ok(())
    }
}

pub trait Fruit {
    fn name(&self) -> String;

    fn sweet(&self) -> bool {
        true
    }
}

macro_rules! basket {
    () => {};
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_empty() {}
}
""",
        [
            (1, 2, ""),
            (4, 8, "Basket"),
            (10, 10, "Basket"),
            (11, 15, "Basket.add"),
            (17, 17, "Basket"),
            (18, 21, "Basket.fmt"),
            (23, 24, "Fruit"),
            (26, 29, "Fruit.sweet"),
            (31, 33, "basket"),
            (35, 37, "tests"),
            (39, 41, "tests.is_empty"),
        ],
    ),
    "Shop.java": (
        """package shop;

import java.util.List;

/**
 * Holds fruit.
 */
@Entity(name = "basket")
public class Basket<T extends Fruit> extends Base implements Countable {
    private final List<T> held;

    public Basket(List<T> held) {
        this.held = held;
    }

    @Override
    public <R> int count(R r) throws EmptyException {
        return held.size();
    }

    static class Handle {
        void carry() {
        }
    }
}

interface Countable {
    int count();
}

enum Kind {
    WICKER;

    boolean strong() {
        return true;
    }
}

record Price(int cents) {
}
""",
        [
            (1, 3, ""),
            (5, 10, "Basket"),
            (12, 14, "Basket.Basket"),
            (16, 19, "Basket.count"),
            (21, 21, "Basket.Handle"),
            (22, 25, "Basket.Handle.carry"),
            (27, 29, "Countable"),
            (31, 32, "Kind"),
            (34, 37, "Kind.strong"),
            (39, 40, "Price"),
        ],
    ),
    "Shop.kt": (
        """package shop

import shop.Fruit

/** Holds fruit. */
data class Basket(val held: List<Fruit>) : Base(), Countable {
    val size: Int
        get() = held.size

    override fun count(): Int {
        return held.size
    }

    companion object {
        fun empty() = Basket(emptyList())
    }
}

object Prices {
    fun of(fruit: Fruit): Int = 1
}

fun Basket.total(): Int = 1

interface Countable {
    fun count(): Int
}
""",
        [
            (1, 3, ""),
            (5, 8, "Basket"),
            (10, 12, "Basket.count"),
            (14, 14, "Basket.Companion"),
            (15, 17, "Basket.Companion.empty"),
            (19, 19, "Prices"),
            (20, 21, "Prices.of"),
            (23, 23, "total"),
            (25, 27, "Countable"),
        ],
    ),
    "shop.c": (
        """#include <stdio.h>

#define RATE 3
#define TWICE(x) ((x) * 2)

typedef struct basket {
    int held;
} basket_t;

struct fruit {
    char *name;
};

/* Sums a basket. */
static int *total(basket_t *b)
{
    return &b->held;
}

#ifdef DEBUG
void dump(void)
{
}
#endif
""",
        [
            (1, 3, ""),
            (4, 4, "TWICE"),
            (6, 8, "basket_t"),
            (10, 12, "fruit"),
            (14, 18, "total"),
            (20, 20, ""),
            (21, 24, "dump"),
        ],
    ),
    "shop.cpp": (
        """#include <vector>

namespace shop {

template <typename T>
class Basket : public Base {
public:
    Basket();
    int count() const { return 1; }

private:
    std::vector<T> held;
};

enum class Kind { Wicker };

}  // namespace shop

shop::Basket<int>::Basket() {
}

const int &shop::Basket<int>::first() const
{
    return held[0];
}

bool operator==(const A &a, const B &b)
{
    return true;
}
""",
        [
            (1, 3, "shop"),
            (5, 8, "Basket"),
            (9, 9, "Basket.count"),
            (11, 13, "Basket"),
            (15, 17, "Kind"),
            (19, 20, "shop.Basket.Basket"),
            (22, 25, "shop.Basket.first"),
            (27, 30, "operator=="),
        ],
    ),
    "Shop.cs": (
        """using System;

namespace Shop
{
    /// <summary>Holds fruit.</summary>
    [Serializable]
    public class Basket<T> : Base where T : Fruit
    {
        public int Size { get; set; }

        public Basket(int size)
        {
            Size = size;
        }

        public async Task<int> Count()
        {
            return 1;
        }
    }

    public interface ICountable
    {
        int Count();
    }

    public enum Kind { Wicker }

    public record Price(int Cents);
}
""",
        [
            (1, 4, "Shop"),
            (5, 9, "Basket"),
            (11, 14, "Basket.Basket"),
            (16, 20, "Basket.Count"),
            (22, 25, "ICountable"),
            (27, 27, "Kind"),
            (29, 30, "Price"),
        ],
    ),
    "shop.rb": (
        """require "set"

module Shop
  # Holds fruit.
  class Basket < Base
    attr_reader :held

    def add(fruit)
      @held << fruit
    end

    def self.empty
      new
    end

    class << self
      def full
        new
      end
    end
  end

  class Error < StandardError; end
end

RSpec.describe Shop::Basket do
  it "is empty" do
    expect(1).to eq(1)
  end
end
""",
        [
            (1, 1, ""),
            (3, 3, "Shop"),
            (4, 6, "Shop.Basket"),
            (8, 10, "Shop.Basket.add"),
            (12, 14, "Shop.Basket.empty"),
            (16, 16, "Shop.Basket"),
            (17, 21, "Shop.Basket.full"),
            (23, 24, "Shop.Error"),
            (26, 26, "Shop.Basket"),
            (27, 30, "Shop.Basket.is empty"),
        ],
    ),
    "shop.php": (
        """<?php

namespace Shop;

use Base\\Fruit;

/**
 * Holds fruit.
 */
abstract class Basket extends Base implements Countable
{
    private array $held = [];

    public function add(Fruit $fruit): void
    {
        $this->held[] = $fruit;
    }
}

interface Countable
{
    public function count(): int;
}

trait Sells
{
    function sell() {
        return 1;
    }
}

function total(array $held)
{
    return 1;
}
""",
        [
            (1, 5, "Shop"),
            (7, 12, "Basket"),
            (14, 18, "Basket.add"),
            (20, 23, "Countable"),
            (25, 26, "Sells"),
            (27, 30, "Sells.sell"),
            (32, 35, "total"),
        ],
    ),
    "Shop.swift": (
        """import Foundation

/// Holds fruit.
public class Basket: Base {
    var held: [Fruit] = []

    init(held: [Fruit]) {
        self.held = held
    }

    func count() -> Int {
        return held.count
    }
}

extension Basket: Countable where T: Fruit {
    func total() -> Int { 1 }
}

protocol Countable {
    func count() -> Int
}

struct Price {
    let cents: Int
}

func top() {}
""",
        [
            (1, 1, ""),
            (3, 5, "Basket"),
            (7, 9, "Basket.init"),
            (11, 14, "Basket.count"),
            (16, 16, "Basket"),
            (17, 18, "Basket.total"),
            (20, 22, "Countable"),
            (24, 26, "Price"),
            (28, 28, "top"),
        ],
    ),
    "shop.sh": (
        """#!/bin/sh
set -e

# Sums.
total() {
  echo 1
}

function add {
  echo "$1"
}

total
""",
        [
            (1, 2, ""),
            (4, 7, "total"),
            (9, 11, "add"),
            (13, 13, ""),
        ],
    ),
    "old.py": (
        """import sys

class Basket:
    def add(self, fruit):
        print "added", fruit
        raise ValueError, "no"

    def broken(self:
        return 1

def total(b):
    exec "x" in {}
    return 0777
""",
        [
            (1, 1, ""),
            (3, 3, "Basket"),
            (4, 6, "Basket.add"),
            (8, 9, "Basket"),
            (11, 13, "total"),
        ],
    ),
}
"""By name: the text, and the first and last line and the symbol of each chunk."""


@pytest.mark.parametrize("path", SAMPLES)
def test_a_file_is_cut_into_its_definitions_by_their_qualified_names(path):
    text, expected = SAMPLES[path]
    assert [
        (piece.start_line, piece.end_line, piece.symbol) for piece in chunk(path, text.encode()).chunks
    ] == expected


@pytest.mark.parametrize("path", SAMPLES)
def test_windows_line_endings_change_no_line(path):
    text, expected = SAMPLES[path]
    found = chunk(path, text.replace("\n", "\r\n").encode()).chunks
    assert [(piece.start_line, piece.end_line, piece.symbol) for piece in found] == expected


@pytest.mark.parametrize(
    ("path", "symbol", "context"),
    [
        ("shop.ts", "Basket.add", "class Basket<T extends Fruit> extends Base implements Countable"),
        ("shop.rs", "Basket.fmt", "impl<T> fmt::Display for Basket<T>"),
        ("Shop.java", "Basket.Handle.carry", "public class Basket<T extends Fruit> extends Base implements Countable\nstatic class Handle"),
        ("Shop.kt", "Basket.count", "data class Basket(val held: List<Fruit>) : Base(), Countable"),
        ("Shop.cs", "Basket.Count", "public class Basket<T> : Base where T : Fruit"),
        ("shop.rb", "Shop.Basket.add", "module Shop\nclass Basket < Base"),
        ("shop.php", "Basket.add", "abstract class Basket extends Base implements Countable"),
        ("Shop.swift", "Basket.count", "public class Basket: Base"),
        ("shop.cpp", "Basket.count", "class Basket : public Base"),
        ("old.py", "Basket.add", "class Basket:"),
    ],
)  # fmt: skip
def test_a_method_says_what_it_is_in(path, symbol, context):
    found = {piece.symbol: piece.context for piece in chunk(path, SAMPLES[path][0].encode()).chunks}
    assert found[symbol] == context


def test_a_script_is_known_by_its_first_line():
    assert [
        piece.symbol
        for piece in chunk("bin/run", b"#!/usr/bin/env python3\nimport a\ndef f():\n    pass\n").chunks
    ] == ["", "f"]
    assert definitions("bin/run", ["#!/bin/false", "def f():"]) is None
    assert definitions("notes.txt", ["def f():"]) is None


def test_a_long_module_function_is_cut_at_the_functions_in_it():
    inner = "".join(f"  function step{n}(a) {{\n    return a + {n};\n  }}\n" for n in range(40))
    symbols = [piece.symbol for piece in chunk("a.js", f"function all() {{\n{inner}}}\n".encode()).chunks]
    assert symbols == ["all", *(f"all.step{n}" for n in range(40))]


def test_characters_that_a_grammar_does_not_expect_are_kept_from_it():
    content = (
        "e{\U0010ffffO(\nf() { :; }\n".encode()
    )  # the shell's scanner looks them up beyond its table and crashes
    assert chunk("a.sh", content).chunks
    assert [piece.symbol for piece in chunk("a.rs", "fn é名() { '名' }\nstruct Ü;\n".encode()).chunks] == [
        "é名",
        "Ü",
    ]


def test_two_definitions_on_one_line_do_not_swallow_what_follows():
    found = [
        (piece.start_line, piece.symbol)
        for piece in chunk("a.js", b"const a = () => 1, b = () => 2;\nfunction c() {}\n").chunks
    ]
    assert found == [(1, "a"), (2, "c")]


HOSTILE = {
    "open": "(" * 400_000,
    "blocks": "{" * 400_000,
    "quotes": "'\"`" * 130_000,
    "less": "<" * 400_000,
    "words": "a " * 200_000,
    "classes": "class A { " * 40_000,
    "heredocs": "<<A " * 100_000,
    "substitutions": "$(" * 200_000,
    "templates": "`${" * 130_000,
    "lambdas": "x => " * 80_000,
    "functions": "func f( " * 50_000,
    "dots": "a.b(" * 100_000,
    "decorators": "@a(" * 100_000,
    "indented": "".join(" " * n + "if x:\n" for n in range(900)),
    "headers": "fn f() {}\n" * 50_000,
}
ENDINGS = sorted({path.rpartition(".")[2] for path in SAMPLES})


@pytest.mark.long
@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("kind", HOSTILE)
def test_no_file_takes_long(ending, kind):
    """Seconds, or where the machine is slow no more than its length accounts for."""

    def seconds(text: str) -> float:
        began = time.thread_time()
        assert chunk(f"a.{ending}", text.encode()).chunks
        return time.thread_time() - began

    lines = re.sub(r"(.{100})", r"\1\n", HOSTILE[kind])  # one long line would be left out as minified
    spent = seconds(lines)
    assert spent < 4 or spent < 3 * seconds(lines[: len(lines) // 2])


@pytest.mark.parametrize("ending", ENDINGS)
def test_no_short_file_takes_long_either(ending):
    """Its end is reached before its time is over, and what is held until then is looked through there in one step."""
    for kind, text in HOSTILE.items():
        began = time.thread_time()
        assert chunk(f"a.{ending}", re.sub(r"(.{100})", r"\1\n", text[:20_000]).encode()).chunks
        assert time.thread_time() - began < 4, kind


TEXTS = st.one_of(
    st.text(max_size=300),
    st.lists(
        st.sampled_from(
            [
                "class",
                "def",
                "fn",
                "func",
                "function",
                "impl",
                "struct",
                "namespace",
                "module",
                "end",
                "do",
                "if",
                "else",
                "template",
                "<",
                ">",
                "{",
                "}",
                "(",
                ")",
                "[",
                "]",
                ";",
                ":",
                ",",
                ".",
                "=",
                "=>",
                "->",
                '"',
                "'",
                "`",
                "#",
                "//",
                "/*",
                "*/",
                "@",
                "::",
                "<<",
                "a",
                "b",
                "\n",
                "\n\n",
                "\t",
                "\r",
                "\x0c",
                "\u2028",
                "\ufeff",
                "\x00",
                "é",
                "名",
                "${",
                "$(",
                "\\",
                "public",
                "static",
                "const",
                "export",
            ]
        ),
        max_size=120,
    ).map(" ".join),
)


@pytest.mark.parametrize("ending", ENDINGS)
@given(text=TEXTS)
@settings(max_examples=60, deadline=None)
def test_every_line_with_something_on_it_is_in_a_chunk(ending, text):
    check(f"a.{ending}", text.encode())


@pytest.mark.parametrize("path", SAMPLES)
def test_no_half_of_a_file_loses_a_line(path):
    text = SAMPLES[path][0].encode()
    for at in range(0, len(text), 17):
        check(path, text[:at])
        check(path, text[at:])


def check(path: str, content: bytes) -> None:
    found = chunk(path, content)
    assert (found.left_out is None) == bool(found.chunks)
    lines = text_of(content).split("\n")
    covered: set[int] = set()
    for piece in found.chunks:
        assert 1 <= piece.start_line <= piece.end_line <= len(lines)
        assert "\n".join(lines[piece.start_line - 1 : piece.end_line]).startswith(piece.text)
        covered.update(range(piece.start_line, piece.end_line + 1))
    if found.left_out is None:
        assert {number for number, line in enumerate(lines, 1) if line.strip()} <= covered


def test_threads_do_not_disturb_each_other():
    wrong = []

    def cut() -> None:
        for path in itertools.islice(itertools.cycle(SAMPLES), 100):
            text, expected = SAMPLES[path]
            if [
                (one.start_line, one.end_line, one.symbol) for one in chunk(path, text.encode()).chunks
            ] != expected:
                wrong.append(path)

    threads = [threading.Thread(target=cut) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
