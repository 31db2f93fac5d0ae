"""
The API's rules for names.

Names end up in nftables comments, logs and metrics, so nothing that these rules
refuse gets past this module.
"""

from __future__ import annotations

import re

from nfproxy.errors import InputError
from nfproxy.text import shorten

_LABEL = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?", re.ASCII)
_SUBDOMAIN = re.compile(
    r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*", re.ASCII
)
SUBDOMAIN_LIMIT = 253


def label(text: str) -> str:
    """
    Return `text` if it is an RFC 1123 label: a namespace, Service or port name.

    Services were RFC 1035 labels (no leading digit) up to Kubernetes 1.33; the wider rule
    of its successors is taken. Raises InputError.
    """
    if not _LABEL.fullmatch(text):
        raise InputError(
            f"{shorten(text)!r} is not a valid name: at most 63 lower-case letters, digits "
            "and '-', with a letter or digit at both ends"
        )
    return text


def subdomain(text: str) -> str:
    """
    Return `text` if it is an RFC 1123 subdomain: the name of most objects.

    Raises InputError.
    """
    if len(text) > SUBDOMAIN_LIMIT or not _SUBDOMAIN.fullmatch(text):
        raise InputError(
            f"{shorten(text)!r} is not a valid name: at most {SUBDOMAIN_LIMIT} lower-case "
            "letters, digits, '-' and '.', with a letter or digit at both ends of each part"
        )
    return text


def port_name(text: str) -> str:
    """Return `text` if it is a port name: empty or a label. Raises InputError."""
    return label(text) if text else text
