"""
How to look around in a demo that is left running.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys

from nfproxy.tools.demo.story import Story
from nfproxy.tools.lab import Host


def hints(story: Story) -> str:
    """Return commands to try in another terminal, with a word on each."""
    node, client, pod = story.cluster.nodes[0], story.cluster.client, story.cluster.pod(1, 3)
    proxy = story.proxies[0]
    diff = shlex.join([*_nfproxy(proxy.command), *proxy.arguments("diff")])
    parts = [
        ("ask web from outside, from a pod", [_in(client, _get("http://10.96.0.10/"))]),
        ("", [_in(pod, _get("http://[fd00:10:96::10]/"))]),
        ("the ruleset of node-1", [_in(node, "nft list table ip nfproxy")]),
        ("how it differs from the manifests", [_in(node, diff)]),
        ("a shell on node-1, on node-2", [_in(node, "bash")]),
        ("", [_in(story.cluster.nodes[1], "bash")]),
        ("the manifests: edit one, nfproxy follows", [f"ls {story.workspace.manifests}"]),
        ("what nfproxy says", [f"tail -f {proxy.log}"]),
    ]
    lines = []
    for title, commands in parts:
        lines += [f"# {title}"] if title else []
        lines += commands
    return "\n".join(lines)


def _get(url: str) -> str:
    if shutil.which("curl"):
        return shlex.join(["curl", url])
    return shlex.join(
        ["python3", "-c", f"import urllib.request as r; print(r.urlopen('{url}').read().decode())"]
    )


def _in(host: Host, command: str) -> str:
    sudo = "sudo " if os.environ.get("SUDO_USER") else ""
    return f"{sudo}{shlex.join(host.namespace.enter_command())} {command}"


def _nfproxy(command: list[str]) -> list[str]:
    """Prefer the installed command: it is shorter and works in every directory."""
    installed = shutil.which(sys.argv[0])
    return [os.path.abspath(installed)] if installed else command  # noqa: PTH100 - keep links
