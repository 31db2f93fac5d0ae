"""The evaluator understands what each version of nft lists."""

import pytest
from support.evaluation import evaluated
from support.golden import case
from tools.nft_versions import Nft, versions

from nfproxy.tools.lab import Lab

CASE = case("everything")


@pytest.mark.parametrize("nft", versions(), ids=str)
def test_a_listing_means_the_same_as_the_script(lab: Lab, nft: Nft) -> None:
    """By each version."""
    text = CASE.script()
    namespace = lab.namespace("listed")
    namespace.run([nft.command, "-f", "-"], input=text)
    listing = namespace.run([nft.command, "list", "ruleset"]).stdout
    lab.drop(namespace)

    assert evaluated(listing, text) == evaluated(text, text)
