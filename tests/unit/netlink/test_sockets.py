"""The netlink socket: errors, sequence numbers, and what can happen to a listing."""

import errno
import socket
import struct

import pytest
from support.kernel.real import RealKernel

from nfproxy.errors import DataplaneError, TransactionError
from nfproxy.model.addresses import Family, parse_address
from nfproxy.model.nodeconfig import NodeConfig
from nfproxy.netlink import sockets
from nfproxy.netlink.elements import element_requests
from nfproxy.netlink.messages import NLM_F_DUMP_INTR, NLMSG_DONE, NLMSG_ERROR
from nfproxy.netlink.nftables import delete_table
from nfproxy.netlink.sockets import ABSENT, NOT_PERMITTED, NftSocket
from nfproxy.nft import ruleset, schema
from nfproxy.reconcile.transition import Operation

V4 = Family.IPV4
IP = parse_address("10.96.0.1")


class Script:
    """A socket whose answers a test has written; requests are numbered from 2."""

    def __init__(self, *answers: bytes | OSError) -> None:
        self.answers = list(answers)
        self.sent: list[bytes] = []

    def send(self, data: bytes) -> int:
        self.sent.append(data)
        return len(data)

    def recv(self, size: int, flags: int = 0) -> bytes:
        if not self.answers:
            raise BlockingIOError
        answer = self.answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return answer

    def setsockopt(self, *args: int) -> None:
        return


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch):
    """Return a socket that answers from a script."""

    def make(*answers: bytes | OSError) -> tuple[NftSocket, Script]:
        script = Script(*answers)
        monkeypatch.setattr(sockets, "open_socket", lambda protocol: script)
        return NftSocket(), script

    return make


def reply(number: int, code: int = 0, kind: int = NLMSG_ERROR, flags: int = 0) -> bytes:
    return struct.pack("=IHHIIi", 20, kind, flags, number, 0, -code)


def commit(connection: NftSocket) -> None:
    operations = [Operation(True, V4, schema.CLUSTER_IPS, IP)]
    connection.commit(element_requests(operations))


def test_a_refusal_names_the_error(real: RealKernel):
    """In words, and as the constant that an operator can look up."""
    real.load(ruleset.program_text(NodeConfig(node_name="n").program, V4, []))
    with pytest.raises(TransactionError, match=r"No such file or directory \(ENOENT\)"):
        real.commit([Operation(False, V4, schema.CLUSTER_IPS, IP)])

    frontend = IP + schema.protocol_bytes(6) + schema.port_bytes(80)
    real.commit([Operation(True, V4, schema.FRONTENDS, frontend, schema.DROP)])
    with pytest.raises(TransactionError, match="EEXIST"):
        real.commit([Operation(True, V4, schema.FRONTENDS, frontend, schema.goto("services"))])


def test_the_socket_works_on_after_a_refusal(real: RealKernel):
    """Answers to one transaction are not taken for those to the next."""
    real.load(ruleset.program_text(NodeConfig(node_name="n").program, V4, []))
    for _ in range(3):
        with pytest.raises(TransactionError):
            real.commit([Operation(False, V4, schema.CLUSTER_IPS, IP)] * 3)
        real.commit([Operation(True, V4, schema.CLUSTER_IPS, IP)])
        real.commit([Operation(False, V4, schema.CLUSTER_IPS, IP)])


def test_listing_an_absent_set_has_an_error_code_of_its_own(real: RealKernel):
    """For callers, absence is an answer and not a failure."""
    with pytest.raises(DataplaneError) as caught:
        real.kernel._netlink.elements(V4, "nfproxy", "cluster-ips")

    assert caught.value.code == ABSENT
    assert list(real.elements(V4, schema.CLUSTER_IPS)) == []


def test_tables_are_deleted_and_only_ours(real: RealKernel):
    """The code of the refusal says that there is none."""
    real.load("add table ip other\n")
    real.load(ruleset.program_text(NodeConfig(node_name="n").program, V4, []))

    real.kernel._netlink.commit([delete_table(V4, schema.TABLE)])
    with pytest.raises(TransactionError) as caught:
        real.kernel._netlink.commit([delete_table(V4, schema.TABLE)])
    assert caught.value.code == ABSENT
    assert real.namespace.run(["nft", "list", "tables"]).stdout == "table ip other\n"


def test_sequence_numbers_leave_room_for_begin_and_end_of_a_batch(scripted):
    """These have numbers of their own; numbers start again before they overflow."""
    connection, _ = scripted()
    one = connection._reserve(3)
    two = connection._reserve(1)
    connection._sequence = 0x7FFF_FFF0
    three = connection._reserve(5)

    assert two - 1 > one + 3
    assert 1 < three < 100


def test_an_interrupted_listing_is_repeated(scripted):
    """A change of the ruleset meanwhile may have hidden a row."""
    done = NLMSG_DONE
    connection, script = scripted(reply(2, kind=done, flags=NLM_F_DUMP_INTR), reply(5, kind=done))

    assert connection.chains(V4) == []
    assert len(script.sent) == 2


def test_a_listing_that_is_always_interrupted_fails(scripted):
    """With a reason, after some tries."""
    done = NLMSG_DONE
    answers = [reply(2 + 3 * i, kind=done, flags=NLM_F_DUMP_INTR) for i in range(sockets._TRIES)]
    connection, _ = scripted(*answers)

    with pytest.raises(DataplaneError, match="keeps changing"):
        connection.chains(V4)


def test_answers_to_earlier_requests_are_passed_over(scripted):
    """A late answer does not end a listing."""
    done = NLMSG_DONE
    connection, script = scripted(reply(1, errno.EIO) + reply(1, kind=done), reply(2, kind=done))

    assert connection.chains(V4) == []
    assert script.answers == []


def test_a_refused_listing_is_an_error(scripted):
    """The code names the kernel's errno."""
    connection, _ = scripted(reply(2, errno.EPERM))

    with pytest.raises(DataplaneError, match="list the ruleset: Operation not permitted") as caught:
        connection.chains(V4)
    assert caught.value.code == NOT_PERMITTED


def test_a_transaction_without_an_answer_is_not_taken_for_done(scripted):
    """The kernel sent no error, but no acknowledgement either."""
    connection, _ = scripted()

    with pytest.raises(TransactionError, match="did not acknowledge"):
        commit(connection)


def test_more_errors_than_the_socket_holds_are_a_refusal(scripted):
    """The kernel reports each message that fails; an overflow means that some did."""
    connection, _ = scripted(OSError(errno.ENOBUFS, "No buffer space available"))

    with pytest.raises(TransactionError, match="ENOBUFS"):
        commit(connection)


def test_the_first_error_is_the_one_reported(scripted):
    """The others follow from it."""
    connection, _ = scripted(reply(2, errno.ENOENT) + reply(3, errno.EEXIST))

    with pytest.raises(TransactionError, match="ENOENT"):
        commit(connection)


def test_a_transaction_that_is_not_permitted_says_why_that_may_be(scripted):
    """
    The kernel has one error for a missing capability and for a table that another process owns.
    """
    connection, _ = scripted(reply(2, errno.EPERM))

    with pytest.raises(TransactionError, match=r"\(EPERM\).*NET_ADMIN.*nft list table"):
        commit(connection)


def test_a_transaction_that_cannot_be_sent_is_refused(scripted):
    """The kernel has changed nothing."""
    connection, script = scripted()

    def full(data: bytes) -> int:
        raise OSError(errno.EMSGSIZE, "Message too long")

    script.send = full
    with pytest.raises(TransactionError, match="Message too long"):
        commit(connection)


def test_a_kernel_without_nfnetlink_is_reported(monkeypatch: pytest.MonkeyPatch):
    """As one sentence, not as a traceback."""

    def refuse(*args: int) -> socket.socket:
        raise OSError(errno.EPROTONOSUPPORT, "Protocol not supported")

    monkeypatch.setattr(sockets.socket, "socket", refuse)
    with pytest.raises(DataplaneError, match="cannot open a netfilter netlink socket"):
        NftSocket()
