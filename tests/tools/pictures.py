#!/usr/bin/env python3
"""
Draw the pictures of the README: how a packet finds its endpoint, and how fast changes are.

usage: tests/tools/pictures.py [--bench FILE]

Writes deploy/docs/pictures/dataplane.svg and performance.svg. The figures come from
deploy/docs/pictures/bench.json, which ``--bench FILE`` replaces: the output of
``tests/bench/run.sh -o json``. A test compares the files with what this script draws.

Each picture is a card with a background of its own, so that it can be read on a light page and on
a dark one; where the browser prefers dark, its colours change.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

PICTURES = Path(__file__).parents[2] / "deploy" / "docs" / "pictures"
BENCH = PICTURES / "bench.json"
SIZE = (10_000, 10)  # Services x endpoints: the size that the baseline is measured with
REPLACED = "one endpoint replaced"
UNITS = (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6))

STYLE = """\
  <style>
    text { font: 14px ui-sans-serif, system-ui, -apple-system, "Segoe UI", sans-serif; }
    .card { fill: #ffffff; stroke: #d0d7de; }
    .box { fill: #f6f8fa; stroke: #8c959f; }
    .ours { fill: #0969da; }
    .theirs { fill: #8c959f; }
    .strong { fill: #1f2328; font-weight: 600; }
    .plain { fill: #1f2328; }
    .soft { fill: #59636e; font-size: 12px; }
    .code { fill: #1f2328; font: 12.5px ui-monospace, "SFMono-Regular", Menlo, monospace; }
    .line { stroke: #59636e; fill: none; stroke-width: 1.5; }
    .tip { fill: #59636e; }
    @media (prefers-color-scheme: dark) {
      .card { fill: #0d1117; stroke: #3d444d; }
      .box { fill: #151b23; stroke: #656c76; }
      .ours { fill: #4493f8; }
      .theirs { fill: #656c76; }
      .strong, .plain, .code { fill: #f0f6fc; }
      .soft { fill: #9198a1; }
      .line { stroke: #9198a1; }
      .tip { fill: #9198a1; }
    }
  </style>
"""


def svg(width: int, height: int, title: str, parts: Iterator[str]) -> str:
    """Return a picture: a card of `width` by `height` pixels with `parts` on it."""
    body = "\n".join(f"  {part}" for part in parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}">\n'
        f"  <title>{escape(title)}</title>\n{STYLE}"
        f'  <rect class="card" x="0.5" y="0.5" width="{width - 1}" height="{height - 1}" rx="8"/>\n'
        f"{body}\n</svg>\n"
    )


def escape(text: str) -> str:
    """Return text as XML has it."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")


def text(x: float, y: float, words: str, kind: str = "plain", anchor: str = "start") -> str:
    """Return one line of text, its baseline at `y`."""
    return f'<text class="{kind}" x="{x:g}" y="{y:g}" text-anchor="{anchor}">{escape(words)}</text>'


def box(x: float, y: float, width: float, height: float) -> str:
    """Return a box."""
    return f'<rect class="box" x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="5"/>'


def arrow(x: float, y: float, to_x: float, to_y: float) -> Iterator[str]:
    """Yield a straight arrow."""
    angle = math.atan2(to_y - y, to_x - x)
    tips = [(to_x, to_y)]
    for side in (2.7, -2.7):
        tips.append((to_x + 9 * math.cos(angle + side), to_y + 9 * math.sin(angle + side)))
    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in tips)
    yield f'<path class="line" d="M {x:g} {y:g} L {to_x:g} {to_y:g}"/>'
    yield f'<polygon class="tip" points="{points}"/>'


# --- how a packet finds its endpoint -----------------------------------------------------


class Step(NamedTuple):
    """One step of a packet: what is done, with which part of the ruleset, and an example."""

    title: str
    code: tuple[str, ...]
    note: str


STEPS = (
    Step(
        "1. look the frontend up",
        ("map frontends", "10.96.0.10 . tcp . 80", "  : goto cluster-tcp-3"),
        "one element for each address and port",
    ),
    Step(
        "2. draw a slot",
        ("chain cluster-tcp-3", "numgen random mod 3", "  → slot 1"),
        "one chain for all frontends of a shape",
    ),
    Step(
        "3. look the slot up",
        ("map endpoints-tcp", "10.96.0.10 . 80 . 1", "  : 10.244.2.9 . 8080"),
        "one element for each endpoint",
    ),
)


def dataplane() -> str:
    """Return the picture of a packet's way through the ruleset."""
    return svg(880, 250, "How a packet finds its endpoint: two look-ups", _dataplane())


def _dataplane() -> Iterator[str]:
    yield text(24, 34, "How a packet finds its endpoint", "strong")
    yield text(
        24,
        55,
        "The first packet of a connection to 10.96.0.10:80, a Service of 3 endpoints",
        "soft",
    )
    width, left, top, height = 226, 24, 78, 108
    for number, step in enumerate(STEPS):
        x = left + number * (width + 77)
        yield box(x, top, width, height)
        yield text(x + 14, top + 24, step.title, "strong")
        for row, code in enumerate(step.code):
            yield text(x + 14, top + 50 + 19 * row, code.replace(" ", "\N{NO-BREAK SPACE}"), "code")
        yield text(x, top + height + 20, step.note, "soft")
        if number:
            yield from arrow(x - 72, top + height / 2, x - 6, top + height / 2)
    yield text(
        24,
        236,
        "To replace an endpoint, one element is replaced. The rules stay the same, however many "
        "Services there are.",
        "plain",
    )


# --- how fast changes are ----------------------------------------------------------------


class Pair(NamedTuple):
    """One comparison, in seconds."""

    what: str
    ours: float
    theirs: float


def pairs(results: dict[str, Any]) -> list[Pair]:
    """Return what to compare out of a result of the benchmark."""
    ours = _of_size(results["nfproxy"])
    theirs = _of_size(results["baseline"])
    return [
        Pair("First load", ours["first_load"]["total"], theirs["load"]),
        Pair(
            "One endpoint replaced, median",
            ours["changes"][REPLACED]["median"],
            theirs["replaced"]["median"],
        ),
        Pair(
            "One endpoint replaced, p99",
            ours["changes"][REPLACED]["p99"],
            theirs["replaced"]["p99"],
        ),
    ]


def _of_size(measured: list[dict[str, Any]]) -> dict[str, Any]:
    return next(one for one in measured if (one["services"], one["endpoints"]) == SIZE)


def performance(results: dict[str, Any]) -> str:
    """Return the plot of nfproxy beside a ruleset of one chain per service port."""
    title = "nfproxy beside a ruleset of one chain per service port"
    return svg(880, 344, title, _performance(title, results))


def _performance(title: str, results: dict[str, Any]) -> Iterator[str]:
    yield text(24, 34, title, "strong")
    services, endpoints = SIZE
    yield text(
        24,
        55,
        f"{services:,} Services of {endpoints} endpoints, the same run on two cores; "
        "the scale is logarithmic",
        "soft",
    )
    found = pairs(results)
    shortest = 10 ** math.floor(math.log10(min(min(p.ours, p.theirs) for p in found)))
    longest = 10 ** math.ceil(math.log10(max(max(p.ours, p.theirs) for p in found)))
    left, width, top, row = 270, 440, 84, 72

    def length(seconds: float) -> float:
        return width * math.log(seconds / shortest) / math.log(longest / shortest)

    decade = shortest
    while decade <= longest * 1.01:
        x = left + length(decade)
        yield f'<path class="line" opacity="0.35" d="M {x:.1f} {top - 10} V {top + 3 * row - 14}"/>'
        yield text(x, top + 3 * row + 4, duration(decade), "soft", "middle")
        decade *= 10
    for number, pair in enumerate(found):
        y = top + number * row
        yield text(24, y + 28, pair.what, "plain")
        for kind, seconds, down in (("ours", pair.ours, 0), ("theirs", pair.theirs, 26)):
            end = max(length(seconds), 2)
            yield (
                f'<rect class="{kind}" x="{left}" y="{y + down}" width="{end:.1f}" '
                'height="20" rx="3"/>'
            )
            yield text(left + end + 8, y + down + 15, duration(seconds), "plain")
        yield text(856, y + 28, f"{pair.theirs / pair.ours:,.0f} times", "strong", "end")
    yield f'<rect class="ours" x="{left}" y="318" width="12" height="12" rx="2"/>'
    yield text(left + 18, 329, "nfproxy", "soft")
    yield f'<rect class="theirs" x="{left + 90}" y="318" width="12" height="12" rx="2"/>'
    yield text(left + 108, 329, "one chain per service port, loaded and changed by nft", "soft")


def duration(seconds: float) -> str:
    """Return a duration with two digits and a fitting unit."""
    unit, size = next((u for u in UNITS if seconds >= u[1] * 0.9995), UNITS[-1])
    number = seconds / size
    return f"{number:.0f} {unit}" if number >= 9.95 else f"{number:.2g} {unit}"


def pictures(results: dict[str, Any]) -> dict[str, str]:
    """Return every picture by its file's name."""
    return {"dataplane.svg": dataplane(), "performance.svg": performance(results)}


def main() -> None:
    """Draw all pictures."""
    parser = argparse.ArgumentParser(description="Draw the pictures of the README.")
    parser.add_argument("--bench", type=Path, help="output of tests/bench/run.sh -o json")
    given = parser.parse_args().bench
    if given is not None:
        shutil.copyfile(given, BENCH)
    for name, picture in pictures(json.loads(BENCH.read_text("utf-8"))).items():
        (PICTURES / name).write_text(picture, "utf-8")
        print(PICTURES / name)


if __name__ == "__main__":
    main()
