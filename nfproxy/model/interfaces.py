"""
Names of network interfaces.
"""

from __future__ import annotations

import re

#: IFNAMSIZ of the kernel, less the byte that ends a name.
LONGEST = 15

ACCEPTED = "1 to 15 letters, digits, or any of _ . - @ + = , ~ # % ! ^, a letter, digit or _ first"

# The kernel allows more, but these become part of the ruleset: no quotes, blanks, wildcards, and
# nothing that nft might take for a set (@).
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@+=,~#%!^-]{0,14}", re.ASCII)


def is_interface_name(text: str) -> bool:
    """Tell whether an interface may be called so, or whether names may begin so."""
    return bool(_NAME.fullmatch(text))
