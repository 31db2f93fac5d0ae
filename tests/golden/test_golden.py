"""
Instructive cases, from objects to the script that `render` prints, in files to be read.

After a wanted change: ``pytest tests/golden --update-golden``, then read the difference.
"""

import pytest
from support.golden import Case, cases
from support.kernel.fake import FakeKernel
from support.kernel.real import RealKernel
from support.kernel.tables import dump, program

from nfproxy.tools.lab import Lab

pytestmark = pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)


def test_the_script_is_the_expected_one(case: Case, pytestconfig: pytest.Config):
    """Byte for byte."""
    text = case.script()
    if pytestconfig.getoption("update_golden"):
        case.expected.write_text(text, "utf-8")

    assert case.expected.read_text("utf-8") == text


@pytest.mark.parametrize("seed", range(3))
def test_objects_in_any_order_give_the_same_bytes(case: Case, seed: int):
    """One by one, shuffled."""
    assert case.script() == case.script(shuffle=seed)


def test_the_kernel_accepts_the_script_twice_and_its_own_listing(case: Case, lab: Lab):
    """
    The script loads onto nothing and onto itself; what `nft list` prints makes the same tables.
    """
    text = case.expected.read_text("utf-8")
    namespace, copy = lab.namespace("loaded"), lab.namespace("copied")
    memory = FakeKernel()
    memory.load(text)
    for _ in range(2):
        namespace.run(["nft", "-f", "-"], input=text)
    copy.run(["nft", "-f", "-"], input=namespace.run(["nft", "list", "ruleset"]).stdout)

    with RealKernel(namespace) as loaded, RealKernel(copy) as copied:
        assert dump(loaded) == dump(copied)
        assert dump(memory) == dump(loaded)
        assert program(loaded) == program(copied)
