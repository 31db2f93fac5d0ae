"""What is missing on the machine, or wrong in the configuration, said at the start."""

import errno
import json
import sys
from pathlib import Path

import pytest
from support.processes.commands import (
    ORDINARY_USER,
    ROOT,
    Commands,
    endpoint_slice,
    node_object,
    package_copy,
    service,
    write,
)

from nfproxy.dataplane import probes
from nfproxy.errors import DataplaneError, MissingFeatureError, TransactionError
from nfproxy.model.addresses import FAMILIES, Family
from nfproxy.netlink.nftables import TableRow
from nfproxy.netlink.sockets import NftSocket, code_of
from nfproxy.tools.lab import Lab

WITHOUT_SOCKETS = (sys.executable, str(ROOT / "tests/support/processes/without_sockets.py"))
NO_NFNETLINK = (*WITHOUT_SOCKETS, "netfilter")
FORBIDDEN = (*WITHOUT_SOCKETS, "forbidden")
NO_NET_ADMIN = ("setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin", "--")

#: libnftables is hidden in a mount namespace of its own: there is a file, but no library in it.
HIDE_LIBRARY = (
    "unshare",
    "--mount",
    "bash",
    "-c",
    "for file in $(ldconfig -p | sed -n 's/.*libnftables.so.1.* => //p'); do "
    'mount --bind /dev/null "$(realpath "$file")"; done; exec "$@"',
    "-",
)

#: What nft 1.0.6 prints on a kernel that lacks an expression; seen with `queue num 1` on a
#: kernel without CONFIG_NFT_QUEUE.
REFUSAL = "Error: Could not process rule: No such file or directory"

#: Put into the child: refuses scripts in which the file `lacking` beside it finds its words.
LACK = """
        import pathlib
        if pathlib.Path(__file__).with_name("lacking").read_text() in text:
            _answer(1, "", "/dev/stdin:4:2-5: {refusal}")
            continue
        code, output, errors = nft.cmd(text)
"""
CALL = "        code, output, errors = nft.cmd(text)\n"


@pytest.fixture
def small(manifests: Path) -> Path:
    """Manifests of one Service."""
    write(manifests / "all.json", node_object(), service(), endpoint_slice("web", "10.244.1.5"))
    return manifests


def error_line(text: str) -> str:
    """Return the one line that says what is wrong."""
    lines = [line for line in text.splitlines() if "nfproxy: error:" in line]
    assert len(lines) == 1, text
    assert "Traceback" not in text
    assert text.splitlines()[-1] == lines[0]
    return lines[0]


@pytest.mark.parametrize("prefix", [NO_NET_ADMIN, ORDINARY_USER], ids=["root", "ordinary user"])
@pytest.mark.parametrize("command", ["run", "cleanup", "diff"])
def test_without_cap_net_admin(
    commands: Commands, small: Path, prefix: tuple[str, ...], command: str
) -> None:
    """One line with the remedy; status 1, of diff 2."""
    arguments = {"run": ["--manifests", small], "diff": ["-f", small], "cleanup": []}[command]
    result = commands.run(command, *arguments, prefix=prefix)

    assert result.code == (2 if command == "diff" else 1)
    line = error_line(result.err)
    assert "CAP_NET_ADMIN is missing; run as root" in line
    assert "NET_ADMIN]" in line


def test_check_without_cap_net_admin_and_without_user_namespaces(
    commands: Commands, small: Path
) -> None:
    """Then --check is not available, and the error has the remedy."""
    result = commands.run("render", "-f", small, "--check", prefix=NO_NET_ADMIN)

    assert (result.code, result.out) == (2, "")
    assert "run as root" in error_line(result.err)


@pytest.mark.parametrize("command", ["run", "cleanup"])
def test_without_nf_tables(commands: Commands, small: Path, command: str) -> None:
    """A kernel without its netlink family is named, with the module to load."""
    arguments = ["--manifests", small] if command == "run" else []
    result = commands.run(command, *arguments, prefix=NO_NFNETLINK)

    assert result.code == 1
    assert "the kernel has no nf_tables" in error_line(result.err)
    assert "modprobe nf_tables" in result.err


def test_where_a_seccomp_profile_forbids_netlink(commands: Commands, small: Path) -> None:
    """That is no matter of modules, nor of the capability."""
    result = commands.run("run", "--manifests", small, prefix=FORBIDDEN)

    assert result.code == 1
    line = error_line(result.err)
    assert "netlink sockets are forbidden here (Operation not permitted)" in line
    assert "seccompProfile.type: RuntimeDefault" in line


@pytest.mark.parametrize(
    ("code", "message"),
    [(errno.EINVAL, "modprobe nf_tables"), (errno.EPERM, "not over this network namespace")],
)
def test_each_error_of_the_kernel_has_its_own_text(
    monkeypatch: pytest.MonkeyPatch, code: int, message: str
) -> None:
    """nfnetlink without nf_tables answers EINVAL; a network namespace of another user, EPERM."""

    def refuse(self: NftSocket) -> list[TableRow]:
        raise DataplaneError("cannot list the ruleset", code=code_of(code))

    monkeypatch.setattr(NftSocket, "tables", refuse)
    monkeypatch.setattr(probes, "may_administer_network", lambda: True)
    with pytest.raises(MissingFeatureError, match=message):
        probes.require_privileges()


def test_without_libnftables(commands: Commands, small: Path) -> None:
    """The package to install is named."""
    result = commands.run("run", "--manifests", small, prefix=HIDE_LIBRARY)

    assert result.code == 1
    line = error_line(result.err)
    assert "libnftables cannot be loaded" in line
    assert "install the package libnftables1" in line


def test_check_without_libnftables(commands: Commands, small: Path) -> None:
    """render itself does without, --check does not."""
    assert commands.run("render", "-f", small, prefix=HIDE_LIBRARY).code == 0
    result = commands.run("render", "-f", small, "--check", prefix=HIDE_LIBRARY)
    assert (result.code, result.out) == (2, "")
    assert "install the package" in error_line(result.err)


@pytest.mark.parametrize(
    ("lacking", "message"),
    [
        ("fib daddr", "lacks the fib expression for IPv4; modprobe nft_fib_ipv4 (CONFIG_NFT_FIB"),
        ("numgen random", "lacks the numgen expression for IPv4; modprobe nft_numgen"),
        ("masquerade", "lacks the masquerade statement for IPv4; modprobe nft_masq"),
    ],
)
def test_a_missing_expression_ends_the_start(
    lab: Lab, tmp_path: Path, small: Path, lacking: str, message: str
) -> None:
    """The daemon finds out which it is, says how to get it and ends."""
    child = (ROOT / "nfproxy/dataplane/libnftables_child.py").read_text()
    assert child.count(CALL) == 1
    root = package_copy(
        tmp_path / "copy",
        {
            "dataplane/libnftables_child.py": child.replace(CALL, LACK.format(refusal=REFUSAL)),
            "dataplane/lacking": lacking,
        },
    )
    result = Commands(lab.namespace("node"), tmp_path, root).run("run", "--manifests", small)

    assert result.code == 1
    assert message in error_line(result.err)
    assert REFUSAL in result.err


def test_every_probe_works_here(commands: Commands) -> None:
    """On a kernel that has everything nothing is found missing, and nothing is left behind."""
    assert commands.namespace.call(probes.first_missing_feature, FAMILIES) is None
    assert commands.tables() == []


def every_probe() -> list[tuple[Family, probes.Probe]]:
    """Return every family with every probe."""
    return [(family, probe) for family in FAMILIES for probe in probes.PROBES]


@pytest.mark.parametrize(
    ("family", "probe"), every_probe(), ids=[f"{f.label} {p.what}" for f, p in every_probe()]
)
def test_each_probe_is_blamed_for_its_own_refusal(
    monkeypatch: pytest.MonkeyPatch, family: Family, probe: probes.Probe
) -> None:
    """With its family, its remedy and the kernel's own words; names of modules are filled in."""

    def load(text: str, *, check: bool) -> str:
        assert check
        if probes._script(probe, family) in text:
            raise TransactionError(f"libnftables refused the script: {REFUSAL}")
        return ""

    monkeypatch.setattr(probes, "load_text", load)
    (missing,) = probes.missing_features(FAMILIES)

    assert f"lacks {probe.what} for {family.label}; " in str(missing)
    assert REFUSAL in str(missing)
    assert "FAMILY" not in str(missing)


def test_a_crash_says_nothing_of_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does a hang: nothing is found missing then."""

    def load(text: str, *, check: bool) -> str:
        raise DataplaneError("libnftables ended with SIGSEGV")

    monkeypatch.setattr(probes, "load_text", load)
    assert probes.first_missing_feature(FAMILIES) is None


CONFIG = {"apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration"}


@pytest.mark.parametrize("command", ["run", "render", "diff"])
@pytest.mark.parametrize(
    ("flags", "messages"),
    [
        (
            ("--cluster-cidr", "nonsense", "--nodeport-addresses", "10.0.0.0/33"),
            (
                "2 settings cannot be used",
                "--cluster-cidr: 'nonsense' cannot be used; accepted: ",
                "--nodeport-addresses: ",
            ),
        ),
        (
            ("--config", "FILE"),
            ("FILE: clusterCIDR: 'x' cannot be used", "FILE: nftables.masqueradeBit: 99 cannot"),
        ),
        (("--detect-local-mode", "NodeCIDR", "--hostname-override", "other"), ("Node object",)),
        (
            ("--detect-local-mode", "BridgeInterface", "--pod-bridge-interface", 'a"b'),
            ("interface",),
        ),
    ],
    ids=["flags", "file", "no node", "interface name"],
)
def test_a_configuration_that_cannot_be_used(
    commands: Commands,
    small: Path,
    tmp_path: Path,
    command: str,
    flags: tuple[str, ...],
    messages: tuple[str, ...],
) -> None:
    """
    Field, value and what is accepted, for everything that is wrong, before anything is changed.
    """
    file = tmp_path / "proxy.json"
    file.write_text(json.dumps({**CONFIG, "clusterCIDR": "x", "nftables": {"masqueradeBit": 99}}))
    given = [str(file) if flag == "FILE" else flag for flag in flags]
    where = "--manifests" if command == "run" else "-f"
    result = commands.run(command, where, small, *given, node="")

    assert result.code == (1 if command == "run" else 2)
    assert "nfproxy: error: " in result.err
    for message in messages:
        assert message.replace("FILE", str(file)) in result.err
    assert "Traceback" not in result.err
    assert commands.tables() == []


def test_a_directory_that_is_not_there(commands: Commands) -> None:
    """A slip of the fingers is not taken for an empty cluster."""
    result = commands.run("run", "--manifests", "/nonexistent/manifests")

    assert result.code == 1
    assert "/nonexistent/manifests: No such file or directory" in error_line(result.err)
    assert commands.tables() == []
