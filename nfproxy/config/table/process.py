"""
Settings about the process: what it talks to, serves, tunes and logs.
"""

from __future__ import annotations

from functools import partial

from nfproxy.config.kinds import (
    ADDRESS_PORT,
    BOOL,
    FLOAT,
    FLUSH,
    MODULES,
    PATH,
    QUANTITY,
    STRING,
    UINT32_MAX,
    URLS,
    choice,
    duration,
    integer,
)
from nfproxy.config.setting import Setting, Treatment

_IDLE = Treatment.NOT_NEEDED

_api = partial(Setting, group="API server")
API = (
    _api(
        flag="master",
        for_node=True,
        kind=URLS,
        beside_file=True,
        help="Address of the API server (URL), or of several: one is used until it cannot be "
        "reached, then the next. Wins over the kubeconfig's.",
    ),
    _api(
        flag="kubeconfig",
        for_node=True,
        field="clientConnection.kubeconfig",
        kind=PATH,
        help="Kubeconfig file with address and credentials. Without it and --master, the "
        "pod's service account is used.",
    ),
    _api(
        field="clientConnection.acceptContentTypes",
        kind=STRING,
        treatment=_IDLE,
        help="Accept header sent to the API server.",
    ),
    _api(
        flag="kube-api-content-type",
        field="clientConnection.contentType",
        kind=STRING,
        treatment=_IDLE,
        help="Encoding of requests to the API server; nfproxy speaks JSON.",
    ),
    _api(
        flag="kube-api-qps",
        field="clientConnection.qps",
        kind=FLOAT,
        help="Requests per second to the API server.",
    ),
    _api(
        flag="kube-api-burst",
        field="clientConnection.burst",
        kind=integer(0),
        help="Requests to the API server that may exceed the rate for a moment.",
    ),
)

_servers = partial(Setting, group="Health and metrics")
SERVERS = (
    _servers(
        flag="healthz-bind-address",
        field="healthzBindAddress",
        kind=ADDRESS_PORT,
        help="Where health is served; without a port, 10256.",
    ),
    _servers(
        flag="healthz-port",
        kind=integer(0, 65535),
        flag_default=10256,
        help="Deprecated: port for a --healthz-bind-address without one; 0 turns it off.",
    ),
    _servers(
        flag="metrics-bind-address",
        field="metricsBindAddress",
        kind=ADDRESS_PORT,
        help="Where metrics are served; without a port, 10249.",
    ),
    _servers(
        flag="metrics-port",
        kind=integer(1, 65535),
        flag_default=10249,
        help="Deprecated: port for a --metrics-bind-address without one.",
    ),
    _servers(
        flag="bind-address-hard-fail",
        field="bindAddressHardFail",
        kind=BOOL,
        help="Exit if health or metrics cannot be served, instead of trying again.",
    ),
    _servers(
        flag="profiling",
        field="enableProfiling",
        kind=BOOL,
        treatment=_IDLE,
        help="Profiles of the Go runtime on the metrics port.",
    ),
    _servers(
        flag="show-hidden-metrics-for-version",
        field="showHiddenMetricsForVersion",
        kind=STRING,
        treatment=_IDLE,
        help="Version whose hidden metrics are wanted; nfproxy hides none.",
    ),
)

_conntrack = partial(Setting, group="Connection tracking")
CONNTRACK = (
    _conntrack(
        flag="conntrack-max-per-core",
        field="conntrack.maxPerCore",
        kind=integer(0),
        keeps_zero=True,
        help="Tracked connections per CPU; 0 leaves the limit alone.",
    ),
    _conntrack(
        flag="conntrack-min",
        field="conntrack.min",
        kind=integer(0),
        keeps_zero=True,
        help="Least number of tracked connections to allow.",
    ),
    _conntrack(
        flag="conntrack-tcp-timeout-established",
        field="conntrack.tcpEstablishedTimeout",
        kind=duration(minimum=0),
        keeps_zero=True,
        help="Idle time after which a TCP connection is forgotten; 0 leaves it alone.",
    ),
    _conntrack(
        flag="conntrack-tcp-timeout-close-wait",
        field="conntrack.tcpCloseWaitTimeout",
        kind=duration(minimum=0),
        keeps_zero=True,
        help="The same in state CLOSE_WAIT; 0 leaves it alone.",
    ),
    _conntrack(
        flag="conntrack-tcp-be-liberal",
        field="conntrack.tcpBeLiberal",
        kind=BOOL,
        help="Do not mark TCP packets outside the window as invalid.",
    ),
    _conntrack(
        flag="conntrack-udp-timeout",
        field="conntrack.udpTimeout",
        kind=duration(minimum=0),
        help="Idle time of a UDP flow without answer; 0 leaves it alone.",
    ),
    _conntrack(
        flag="conntrack-udp-timeout-stream",
        field="conntrack.udpStreamTimeout",
        kind=duration(minimum=0),
        help="Idle time of a UDP flow with answers; 0 leaves it alone.",
    ),
)

_logging = partial(Setting, group="Logging")
LOGGING = (
    _logging(
        flag="v",
        short="v",
        field="logging.verbosity",
        kind=integer(0, UINT32_MAX),
        beside_file=True,
        for_node=True,
        help="Log level; higher says more.",
    ),
    _logging(
        flag="logging-format",
        field="logging.format",
        kind=choice("text", "json"),
        beside_file=True,
        for_node=True,
        help="Format of log lines.",
    ),
    _logging(
        flag="vmodule",
        field="logging.vmodule",
        kind=MODULES,
        beside_file=True,
        treatment=_IDLE,
        help="Log levels per Go source file.",
    ),
    _logging(
        flag="log-flush-frequency",
        field="logging.flushFrequency",
        kind=FLUSH,
        beside_file=True,
        treatment=_IDLE,
        help="Time between log flushes; nfproxy writes at once.",
    ),
    *(
        setting
        for style in ("text", "json")
        for setting in (
            _logging(
                flag=f"log-{style}-split-stream",
                field=f"logging.options.{style}.splitStream",
                kind=BOOL,
                beside_file=True,
                treatment=_IDLE,
                help="Errors to standard error, the rest to standard output.",
            ),
            _logging(
                flag=f"log-{style}-info-buffer-size",
                field=f"logging.options.{style}.infoBufferSize",
                kind=QUANTITY,
                beside_file=True,
                treatment=_IDLE,
                help="Buffer of the split log stream.",
            ),
        )
    ),
)
