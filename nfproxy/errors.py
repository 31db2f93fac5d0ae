"""
Everything nfproxy raises on purpose.

::

    NfproxyError
    ├── ConfigError          a flag or configuration field; stops the program at start
    ├── InputError           an object or a file; costs only itself
    ├── MissingFeatureError  the machine lacks something; the remedy says how to get it
    ├── ListenError          a server of ours cannot listen on its address
    └── DataplaneError       the kernel or libnftables refused something
        └── TransactionError

An error is a value: what happened, what to do about it, and a code for callers that react. No
caller searches or splits the text.
"""

from __future__ import annotations

import errno
import os

#: The code of an InputError: no object of the input can be used.
NOTHING_USABLE = "nothing usable"


class NfproxyError(Exception):
    """
    Base of all errors that a person running nfproxy reads.

    `what` says what happened, with the file, field or object first. `remedy` says what to do, ""
    where nothing is known to help. `code` is a constant of the module that raises the error, for
    callers that react to one cause; "" where no caller does. ``str()`` gives ``what; remedy``.
    """

    def __init__(self, what: str, remedy: str = "", code: str = "") -> None:
        """Keep the parts; see the class."""
        super().__init__(what, remedy, code)
        self.what = what
        self.remedy = remedy
        self.code = code

    def __str__(self) -> str:
        """Return one line for a person."""
        return f"{self.what}; {self.remedy}" if self.remedy else self.what


class ConfigError(NfproxyError):
    """A flag or configuration field has a value that cannot be used."""


class InputError(NfproxyError):
    """An object or a manifest file cannot be used; everything else can."""


class MissingFeatureError(NfproxyError):
    """The machine lacks a capability, a kernel feature or a library."""


class ListenError(NfproxyError):
    """A server of ours cannot listen on its address."""


class DataplaneError(NfproxyError):
    """The kernel or libnftables refused something."""


class TransactionError(DataplaneError):
    """The kernel refused a transaction as a whole; nothing of it is in force."""


def reason_of(error: BaseException) -> str:
    """
    Return why something foreign failed, in words of the system or our own, never a library's.

    That is the system's description of an errno, or OpenSSL's constant for a reason; else what kind
    of error it is. A library's text may be long, hostile, or another in its next version.
    """
    code = getattr(error, "code", None)  # of netlink errors of pyroute2
    if isinstance(code, int) and code in errno.errorcode:
        return os.strerror(code)
    if library := getattr(error, "library", None):  # of ssl.SSLError, whose errno is OpenSSL's own
        return f"OpenSSL: {getattr(error, 'reason', None) or library}"
    match error:
        case NfproxyError():
            return str(error)
        case OSError() if error.strerror:
            return str(error.strerror)
        case TimeoutError():
            return "it took too long"
        case UnicodeError():
            return "it holds bytes that are no text"
        case ValueError():
            return "it holds something that cannot be used there"
    return type(error).__name__
