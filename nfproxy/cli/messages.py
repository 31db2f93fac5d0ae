"""
What commands tell beside their output; little to import, so that each starts fast.
"""

from __future__ import annotations

import click


def warn(text: str) -> None:
    """Print a warning to standard error."""
    click.echo(f"nfproxy: warning: {text}", err=True)
