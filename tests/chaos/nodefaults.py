"""What goes wrong on the node: processes, kernel, libnftables, clock, disk, memory, interfaces."""

from __future__ import annotations

import contextlib
import resource
import signal
from collections.abc import Iterator
from pathlib import Path

from chaos.stage import EXTERNAL, Act, Stage
from support.kernel.foreignchanges import KINDS, script
from support.processes.commands import endpoint_slice, service

from nfproxy.model.addresses import parse_address
from nfproxy.model.service import Protocol
from nfproxy.nft import schema

SHADOWING = "nfproxy_frontends_shadowing"
_MEMORY = 4 << 20  # bytes that a short daemon may still have


# --- the process ---------------------------------------------------------------------------


def kill(stage: Stage) -> None:
    stage.end_daemon(signal.SIGKILL)


def kill_at_start(stage: Stage) -> None:
    for _ in range(2):
        stage.end_daemon(signal.SIGKILL)
        stage.live(stage.random.uniform(0.05, 1.0))


def stop_in_order(stage: Stage) -> None:
    stage.end_daemon(signal.SIGTERM)


def pause(stage: Stage) -> None:
    """Stop the process while objects change, and another process changes the tables."""
    with stage.tables_changed() as change:
        stage.daemon.process.send_signal(signal.SIGSTOP)
        stage.live(stage.random.uniform(0.1, 1.0))
        change("flush table ip nfproxy")
        stage.daemon.process.send_signal(signal.SIGCONT)


@contextlib.contextmanager
def _limit(stage: Stage, kind: int, value: int) -> Iterator[None]:
    """Give the daemon less of something inside; it may have ended meanwhile."""
    pid = stage.daemon.process.pid
    with contextlib.suppress(ProcessLookupError):
        before = resource.prlimit(pid, kind)
        resource.prlimit(pid, kind, (value, before[1]))
    yield
    with contextlib.suppress(ProcessLookupError):
        resource.prlimit(pid, kind, before)


def exhaust_descriptors(stage: Stage) -> None:
    stage.waits_for(stage.is_in_step)
    held = sum(1 for _ in Path(f"/proc/{stage.daemon.process.pid}/fd").iterdir())
    with _limit(stage, resource.RLIMIT_NOFILE, held):
        stage.api.close_watches(abort=True)
        stage.live(0.7)


def exhaust_memory(stage: Stage) -> None:
    stage.waits_for(stage.is_in_step)  # a start would end, and the kubelet start it again
    stage.may_end = True
    pages = int(Path(f"/proc/{stage.daemon.process.pid}/statm").read_text().split()[0])
    with _limit(stage, resource.RLIMIT_AS, pages * resource.getpagesize() + _MEMORY):
        stage.api.compact()
        stage.api.close_watches()
        stage.live(0.7)
    stage.waits_for(stage.is_in_step)
    stage.may_end = False


def fill_disk(stage: Stage) -> None:
    (stage.injected / "disk").touch()
    stage.live(0.2)
    with stage.tables_changed() as change:
        change("flush chain ip nfproxy services")  # the log would say so
    (stage.injected / "disk").unlink()
    stage.live(0.1)


def let_the_clock_jump(stage: Stage) -> None:
    jump_s = stage.random.choice([-3e8, -3600.0, 3600.0, 3e8])
    (stage.injected / "clock").write_text(str(jump_s))
    stage.live(0.5)
    if stage.random.random() < 0.5:
        (stage.injected / "clock").unlink()


# --- the kernel and libnftables ------------------------------------------------------------


def _refuse(stage: Stage, name: str) -> None:
    with stage.injects(name, str(stage.random.randint(1, 3))):
        stage.live(0.4)


def run_out_of_kernel_memory(stage: Stage) -> None:
    _refuse(stage, "ENOMEM")


def run_out_of_buffers(stage: Stage) -> None:
    _refuse(stage, "ENOBUFS")


def lose_rights(stage: Stage) -> None:
    _refuse(stage, "EPERM")


def refuse_an_element(stage: Stage) -> None:
    """The frontend of one Service; the rest of its transaction is committed at once."""
    key = parse_address("10.96.1.7") + schema.protocol_bytes(Protocol.TCP) + schema.port_bytes(80)

    def is_refused() -> bool:
        # Another number of endpoints leads the frontend to another chain.
        pods = (f"10.244.9.{number}" for number in range(stage.random.randint(1, 9)))
        stage.api.apply(service("churn-6", "10.96.1.7"), endpoint_slice("churn-6", *pods))
        return stage.metric("nfproxy_refused_parts") > 0

    with stage.tables_changed() as change:
        (stage.injected / "refused").write_text(key.hex())
        assert stage.waits_for(is_refused)
        (stage.injected / "refused").unlink()
        change("flush table ip nfproxy")  # when the tables are read, it is tried again


def _want_a_new_shape(stage: Stage) -> None:
    """Let the daemon need libnftables: by a count of endpoints that no Service has."""
    count = stage.random.randint(30, 200)
    stage.api.apply(
        endpoint_slice("shapes", *(f"10.244.8.{number}" for number in range(1, count))),
    )


def _break_libnftables(stage: Stage, how: str) -> None:
    with stage.injects(how, "1"):
        _want_a_new_shape(stage)
        stage.live(0.5)


def crash_libnftables(stage: Stage) -> None:
    _break_libnftables(stage, "crash")


def hang_libnftables(stage: Stage) -> None:
    _break_libnftables(stage, "hang")


def lose_notifications(stage: Stage) -> None:
    """
    Announce more than the daemon's socket holds, while the daemon does not read, and then a change
    of its tables: the kernel announces no more to a full socket.
    """
    elements = ", ".join(str(number) for number in range(20_000))
    text = f"table ip others {{ set s {{ type mark; elements = {{ {elements} }}; }}; }}\n"
    with stage.tables_changed() as change:
        stage.daemon.process.send_signal(signal.SIGSTOP)
        stage.namespace.run(["nft", "-f", "-"], input=text + "delete table ip others\n")
        change("flush table ip nfproxy")
        stage.daemon.process.send_signal(signal.SIGCONT)


def change_the_tables(stage: Stage) -> None:
    """Do to the tables what another process may do to them; some of it does not apply."""
    kind = stage.random.choice(list(KINDS))
    stage.steps[-1] += f": {kind}"
    with stage.tables_changed() as change:
        change(script(kind))


def flush_again_and_again(stage: Stage) -> None:
    for _ in range(3):
        with stage.tables_changed() as change:
            change("flush ruleset")


# --- interfaces ----------------------------------------------------------------------------


def switch_an_interface(stage: Stage) -> None:
    """Its address is that of a Service, too: nfproxy reports so while the interface is there."""
    for command in (
        "ip link add chaos type veth peer name chaos-peer",
        f"ip address add {EXTERNAL}/24 dev chaos",
        "ip link set chaos up",
        "ip link set chaos down",
        "ip link set chaos up",
    ):
        stage.namespace.run(command.split())
        stage.live(stage.random.uniform(0.0, 0.2))
    assert stage.waits_for(lambda: stage.metric(SHADOWING) == 1)
    stage.namespace.run(["ip", "link", "delete", "chaos"])
    assert stage.waits_for(lambda: stage.metric(SHADOWING) == 0)


FAULTS: tuple[Act, ...] = (
    *(kill, kill_at_start, stop_in_order, pause, exhaust_descriptors, exhaust_memory, fill_disk),
    *(let_the_clock_jump, run_out_of_kernel_memory, run_out_of_buffers, lose_rights),
    refuse_an_element,
    *(crash_libnftables, hang_libnftables, lose_notifications),
    *(change_the_tables, flush_again_and_again, switch_an_interface),
)
