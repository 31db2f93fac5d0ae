#!/usr/bin/env python3
"""
Take the pictures of the web page in deploy/docs/insight.md, with Debian's chromium.

usage: tests/tools/screenshots.py [--to DIRECTORY]

Serves the pages of tests/golden/explain/shop.yaml with some changes, and writes page-light.png and
page-dark.png. Needs no network and no root. Fonts differ from machine to machine, so no test
compares the files.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

from support.browser import browser
from support.processes.pageservers import serving
from support.webpages import shop_pages

from nfproxy.servers.pages import by_path

PICTURES = Path(__file__).parents[2] / "deploy" / "docs" / "pictures"
SIZE = (1000, 590)


async def take(directory: Path) -> None:
    """Write both pictures."""
    async with serving(by_path(shop_pages())) as (host, port), browser() as tab:
        for scheme in ("light", "dark"):
            await tab.look(*SIZE, scheme)
            await tab.open(f"http://{host}:{port}/")
            path = directory / f"page-{scheme}.png"
            path.write_bytes(await tab.screenshot())
            print(path)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Take the pictures of the web page.")
    parser.add_argument("--to", type=Path, default=PICTURES, metavar="DIRECTORY")
    asyncio.run(take(parser.parse_args().to))


if __name__ == "__main__":
    main()
