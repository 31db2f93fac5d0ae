"""
Everything nfproxy raises on purpose.

::

    NfproxyError
    ├── ConfigError        a flag or configuration field; stops the program at start
    ├── InputError         an object or a file; costs only itself
    ├── MissingFeatureError  the machine lacks something; the message carries the remedy
    ├── ListenError        an address cannot be listened on, and that was to be fatal
    └── DataplaneError     the kernel or libnftables refused
        └── TransactionError
"""


class NfproxyError(Exception):
    """Base of all errors whose message is meant for the person running nfproxy."""


class ConfigError(NfproxyError):
    """A flag or configuration field has a value that cannot be used."""


class InputError(NfproxyError):
    """An object or a manifest file cannot be used; everything else can."""


class MissingFeatureError(NfproxyError):
    """The machine lacks a capability, a kernel feature or a library. Says the remedy."""


class ListenError(NfproxyError):
    """An address of our own servers cannot be listened on. Says what to do."""


class DataplaneError(NfproxyError):
    """The kernel or libnftables refused something."""


class TransactionError(DataplaneError):
    """A transaction was refused as a whole; nothing of it is in force."""
