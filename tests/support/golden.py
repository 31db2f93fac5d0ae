"""The cases of ``tests/golden``: objects and configuration, and the script they become."""

import random
from pathlib import Path
from typing import NamedTuple

from nfproxy.config.flags import Flags
from nfproxy.config.load import load
from nfproxy.config.nodeconfig import node_config
from nfproxy.manifests.once import read_once
from nfproxy.model.addresses import FAMILIES
from nfproxy.model.changes import Changes
from nfproxy.plan.planner import Planner
from nfproxy.reconcile.script import script

FOLDER = Path(__file__).parents[1] / "golden"
NODE = "node-1"


class Case(NamedTuple):
    """One case: a folder with ``objects.yaml``, ``config.yaml`` and ``ruleset.nft``."""

    folder: Path

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.name

    @property
    def expected(self) -> Path:
        """The file with the script."""
        return self.folder / "ruleset.nft"

    def changes(self) -> Changes:
        """Return the objects. Raises AssertionError if there is anything wrong with them."""
        changes, problems, *_ = read_once([str(self.folder / "objects.yaml")], NODE)
        assert not problems, problems
        return changes

    def planner(self, shuffle: int | None = None) -> Planner:
        """Return the objects planned on node-1; `shuffle` seeds an order of one's own."""
        changes = self.changes()
        loaded = load(Flags.of(config=str(self.folder / "config.yaml")))
        config, _ = node_config(loaded.config, NODE, changes.node)
        planner = Planner(config)
        for part in [changes] if shuffle is None else _one_by_one(changes, shuffle):
            planner.apply(part)
        return planner

    def script(self, shuffle: int | None = None) -> str:
        """Return what `render` prints."""
        planner = self.planner(shuffle)
        return script(planner.desired, planner.config.program, FAMILIES)


def _one_by_one(changes: Changes, seed: int) -> list[Changes]:
    parts = [Changes(services={name: o}) for name, o in changes.services.items()]
    parts += [Changes(slices={name: o}) for name, o in changes.slices.items()]
    parts += [Changes(service_cidrs={name: o}) for name, o in changes.service_cidrs.items()]
    random.Random(seed).shuffle(parts)
    return parts


def cases() -> list[Case]:
    """Return all cases, by name."""
    return [Case(path.parent) for path in sorted(FOLDER.glob("*/objects.yaml"))]


def case(name: str) -> Case:
    """Return one case."""
    return Case(FOLDER / name)
