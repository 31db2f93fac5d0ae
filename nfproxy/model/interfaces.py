"""
Names of network interfaces.
"""

from __future__ import annotations

import re

#: The kernel's IFNAMSIZ without the byte that ends a name.
LONGEST = 15

ACCEPTED = "1 to 15 letters, digits, or any of _ . - @ + = , ~ # % ! ^, a letter, digit or _ first"

# The kernel allows more. But names become part of the ruleset: so no quotes, blanks or wildcards,
# and no @ at the beginning, which nft reads as the name of a set.
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@+=,~#%!^-]{0,14}", re.ASCII)


def is_interface_name(text: str) -> bool:
    """Return whether nfproxy accepts an interface's name, or the first part of one."""
    return bool(_NAME.fullmatch(text))
