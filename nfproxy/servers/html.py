"""
Responses in HTML: templates with everything escaped, and headers that allow a browser nothing else.

There is no script, no image and no other file; the style is part of each page, and the browser
takes it because its hash is in the header. So text from objects cannot become anything else.
"""

from __future__ import annotations

import base64
import functools
import hashlib
from collections.abc import Mapping
from importlib import resources
from typing import Any

import jinja2
from aiohttp.web_response import Response

from nfproxy.servers.pages import answer

HTML = "text/html"

_BLANKS = " \n\t"
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def html_answer(body: bytes, code: int = 200) -> Response:
    """Return a response with a page that :func:`render` made."""
    return answer(body, f"{HTML}; charset=utf-8", code, _headers())


def render(template: str, **values: object) -> bytes:
    """Return a page; takes milliseconds for hundreds of rows."""
    return _environment().get_template(template).render(**values).encode()


def printable(value: Any) -> Any:
    """
    Return text without characters that change how other text is shown; other values as they are.

    Escaping keeps markup out. Characters that reverse the direction of text, or are invisible,
    would pass, and a name could look like another one.
    """
    if not isinstance(value, str) or hasattr(value, "__html__") or value.isprintable():
        return value
    return "".join(c if c.isprintable() or c in _BLANKS else _REPLACEMENT for c in value)


@functools.cache
def _headers() -> Mapping[str, str]:
    digest = base64.b64encode(hashlib.sha256(render("style.css")).digest()).decode()
    policy = (
        "default-src 'none'",
        f"style-src 'sha256-{digest}'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    )
    return {
        "Content-Security-Policy": "; ".join(policy),
        "Cache-Control": "no-store",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Referrer-Policy": "no-referrer",
        "Vary": "Accept",
        "X-Frame-Options": "DENY",
    }


@functools.cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FunctionLoader(_read),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=printable,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _read(name: str) -> str:
    return resources.files("nfproxy.servers.templates").joinpath(name).read_text("utf-8")
