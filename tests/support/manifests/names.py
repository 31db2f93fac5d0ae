"""Names, labels and quantities, as Kubernetes writes them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

_LABEL = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
_SUBDOMAIN = re.compile(rf"{_LABEL}(\.{_LABEL})*")
_QUALIFIED = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_QUANTITY = re.compile(r"(\d+(?:\.\d+)?)(m|k|M|G|T|Ki|Mi|Gi|Ti)?")
_FACTORS = {
    **{"m": Decimal("0.001"), "": Decimal(1), "k": Decimal(10**3), "M": Decimal(10**6)},
    **{"G": Decimal(10**9), "T": Decimal(10**12), "Ki": Decimal(2**10), "Mi": Decimal(2**20)},
    **{"Gi": Decimal(2**30), "Ti": Decimal(2**40)},
}


def is_label(text: Any) -> bool:
    """Return whether it is a DNS label (RFC 1123): a container's name, a volume's."""
    return isinstance(text, str) and bool(re.fullmatch(_LABEL, text))


def is_subdomain(text: Any) -> bool:
    """Return whether it is a DNS subdomain name (RFC 1123): an object's name."""
    return isinstance(text, str) and len(text) <= 253 and bool(_SUBDOMAIN.fullmatch(text))


def is_label_name(text: str) -> bool:
    """Return whether it can be the key of a label or annotation."""
    prefix, slash, name = text.rpartition("/")
    return bool(_QUALIFIED.fullmatch(name)) and (not slash or is_subdomain(prefix))


def labels(where: str, found: Mapping[str, str] | None) -> Iterator[str]:
    """Find labels that are none."""
    for key, value in (found or {}).items():
        if not is_label_name(key) or (value and not _QUALIFIED.fullmatch(value)):
            yield f"{where}: {key}: {value!r} is no label"


def quantity(text: str) -> Decimal | None:
    """Return what a quantity stands for (cores, bytes), None if it is none."""
    found = _QUANTITY.fullmatch(text)
    return Decimal(found[1]) * _FACTORS[found[2] or ""] if found else None
