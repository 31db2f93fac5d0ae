"""
Blocks that kube-proxy shares with other Kubernetes components: the API client and logging.

Source: ``k8s.io/component-base/config`` and ``k8s.io/component-base/logs/api/v1``.
"""

from __future__ import annotations

from nfproxy.config.durations import Duration
from nfproxy.config.setting import Block, Group, Settings, Treatment
from nfproxy.config.valuetypes import (
    FLUSH,
    PATH,
    QUANTITY,
    UINT32_MAX,
    VModuleItem,
    choice,
    integer,
)

_NOT_NEEDED = Treatment.NOT_NEEDED

_api_server = Settings(Group.API_SERVER)
_logging = Settings(Group.LOGGING, overrides_file=True)
_unused_logging = Settings(Group.LOGGING, overrides_file=True, treatment=_NOT_NEEDED)
_SPLIT = "Errors to standard error, the rest to standard output."
_BUFFER = "Buffer of the split log stream."

# A setting takes two lines, not nine.
# fmt: off


class ClientConnection(Block, frozen=True):
    """``clientConnection``: how to reach the API server."""

    kubeconfig: str = _api_server("", "kubeconfig", PATH, for_node=True,
        help="Kubeconfig file with address and credentials. Without it and --master, the pod's "
             "service account is used.")
    accept_content_types: str = _api_server("", treatment=_NOT_NEEDED,
        help="Accept header sent to the API server.")
    content_type: str = _api_server("application/vnd.kubernetes.protobuf", "kube-api-content-type",
        treatment=_NOT_NEEDED, help="Encoding of requests to the API server; nfproxy uses JSON.")
    qps: float = _api_server(5.0, "kube-api-qps", help="Requests per second to the API server.")
    burst: int = _api_server(10, "kube-api-burst", integer(0),
        help="Requests to the API server that may exceed the rate for a moment.")


class TextOptions(Block, frozen=True):
    """``logging.options.text``."""

    split_stream: bool = _unused_logging(False, "log-text-split-stream", help=_SPLIT)
    info_buffer_size: str = _unused_logging("0", "log-text-info-buffer-size", QUANTITY,
        help=_BUFFER)


class JSONOptions(Block, frozen=True):
    """``logging.options.json``."""

    split_stream: bool = _unused_logging(False, "log-json-split-stream", help=_SPLIT)
    info_buffer_size: str = _unused_logging("0", "log-json-info-buffer-size", QUANTITY,
        help=_BUFFER)


class LoggingOptions(Block, frozen=True):
    """``logging.options``."""

    text: TextOptions = TextOptions()
    json: JSONOptions = JSONOptions()


class Logging(Block, frozen=True):
    """``logging``: component-base's LoggingConfiguration v1."""

    verbosity: int = _logging(0, "v", integer(0, UINT32_MAX), short="v", for_node=True,
        help="Log level; higher levels log more.")
    format: str = _logging("text", "logging-format", choice("text", "json"), for_node=True,
        help="Format of log lines.")
    vmodule: tuple[VModuleItem, ...] = _unused_logging((), "vmodule",
        help="Log levels per Go source file.")
    flush_frequency: Duration = _unused_logging(Duration.of(5), "log-flush-frequency", FLUSH,
        help="Time between log flushes; nfproxy writes at once.")
    options: LoggingOptions = LoggingOptions()
