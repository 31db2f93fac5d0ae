"""
Blocks that kube-proxy shares with other Kubernetes components: the API client and logging.

Source: ``k8s.io/component-base/config`` and ``k8s.io/component-base/logs/api/v1``.
"""

from __future__ import annotations

from functools import partial
from typing import Annotated

from nfproxy.config.durations import Duration
from nfproxy.config.setting import Block, Group, Setting, Treatment
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

_api_server = partial(Setting, group=Group.API_SERVER)
_logging = partial(Setting, group=Group.LOGGING, overrides_file=True)
_unused_logging = partial(_logging, treatment=_NOT_NEEDED)
_split_stream = partial(
    _unused_logging, help="Errors to standard error, the rest to standard output."
)
_buffer_size = partial(_unused_logging, type=QUANTITY, help="Buffer of the split log stream.")


class ClientConnection(Block, frozen=True):
    """``clientConnection``: how to reach the API server."""

    kubeconfig: Annotated[
        str,
        _api_server(
            flag="kubeconfig",
            type=PATH,
            for_node=True,
            help="Kubeconfig file with address and credentials. Without it and --master, the "
            "pod's service account is used.",
        ),
    ] = ""
    accept_content_types: Annotated[
        str, _api_server(treatment=_NOT_NEEDED, help="Accept header sent to the API server.")
    ] = ""
    content_type: Annotated[
        str,
        _api_server(
            flag="kube-api-content-type",
            treatment=_NOT_NEEDED,
            help="Encoding of requests to the API server; nfproxy uses JSON.",
        ),
    ] = "application/vnd.kubernetes.protobuf"
    qps: Annotated[
        float,
        _api_server(flag="kube-api-qps", help="Requests per second to the API server."),
    ] = 5.0
    burst: Annotated[
        int,
        _api_server(
            flag="kube-api-burst",
            type=integer(0),
            help="Requests to the API server that may exceed the rate for a moment.",
        ),
    ] = 10


class TextOptions(Block, frozen=True):
    """``logging.options.text``."""

    split_stream: Annotated[bool, _split_stream(flag="log-text-split-stream")] = False
    info_buffer_size: Annotated[str, _buffer_size(flag="log-text-info-buffer-size")] = "0"


class JSONOptions(Block, frozen=True):
    """``logging.options.json``."""

    split_stream: Annotated[bool, _split_stream(flag="log-json-split-stream")] = False
    info_buffer_size: Annotated[str, _buffer_size(flag="log-json-info-buffer-size")] = "0"


class LoggingOptions(Block, frozen=True):
    """``logging.options``."""

    text: TextOptions = TextOptions()
    json: JSONOptions = JSONOptions()


class Logging(Block, frozen=True):
    """``logging``: component-base's LoggingConfiguration v1."""

    verbosity: Annotated[
        int,
        _logging(
            flag="v",
            short="v",
            type=integer(0, UINT32_MAX),
            for_node=True,
            help="Log level; higher levels log more.",
        ),
    ] = 0
    format: Annotated[
        str,
        _logging(
            flag="logging-format",
            type=choice("text", "json"),
            for_node=True,
            help="Format of log lines.",
        ),
    ] = "text"
    vmodule: Annotated[
        tuple[VModuleItem, ...],
        _unused_logging(flag="vmodule", help="Log levels per Go source file."),
    ] = ()
    flush_frequency: Annotated[
        Duration,
        _unused_logging(
            flag="log-flush-frequency",
            type=FLUSH,
            help="Time between log flushes; nfproxy writes at once.",
        ),
    ] = Duration.of(5)
    options: LoggingOptions = LoggingOptions()
