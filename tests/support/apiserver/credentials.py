"""Where clients learn the API server's address and who they are: kubeconfigs, service accounts."""

from __future__ import annotations

import base64
import json
import shlex
from pathlib import Path
from typing import Any, Literal

from support.apiserver.certificates import Pair

Kind = Literal["token", "tokenFile", "clientcert", "clientcert-data", "exec", "anonymous"]
Trust = Literal["file", "data", "none", "skip"]

# An exec plugin: prints what is in the token's file, and counts how often it was asked.
_PLUGIN = """#!/bin/sh
echo asked >> {log}
printf '{{"kind":"ExecCredential","apiVersion":"client.authentication.k8s.io/v1",'
printf '"status":{{"token":"%s"}}}}' "$(cat {token})"
"""


def write_kubeconfig(
    path: Path,
    kind: Kind,
    *,
    server: str,
    ca_file: Path,
    trust: Trust,
    token: str,
    certificate: Pair | None,
    proxy_url: str,
) -> Path:
    """Write a kubeconfig, and the files beside it that it names."""
    cluster: dict[str, Any] = {"server": server}
    match trust:
        case "file":
            cluster["certificate-authority"] = str(ca_file)
        case "data":
            cluster["certificate-authority-data"] = _base64(ca_file)
        case "skip":
            cluster["insecure-skip-tls-verify"] = True
    if proxy_url:
        cluster["proxy-url"] = proxy_url
    context = {"cluster": "stand-in", "user": "user"}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "stand-in", "cluster": cluster}],
        "users": [{"name": "user", "user": _user(path, kind, token, certificate)}],
        "contexts": [{"name": "stand-in", "context": context}],
        "current-context": "stand-in",
    }
    path.write_text(json.dumps(config, indent=1))  # JSON is YAML
    return path


def _user(path: Path, kind: Kind, token: str, certificate: Pair | None) -> dict[str, Any]:
    token_file = path.with_name(f"{path.name}.token")
    match kind:
        case "token":
            return {"token": token}
        case "tokenFile":
            token_file.write_text(token)
            return {"tokenFile": str(token_file)}
        case "exec":
            token_file.write_text(token)
            plugin, log = (path.with_name(f"{path.name}.{end}") for end in ("exec", "exec.log"))
            log.touch()
            names = {"log": shlex.quote(str(log)), "token": shlex.quote(str(token_file))}
            plugin.write_text(_PLUGIN.format(**names))
            plugin.chmod(0o755)
            version = "client.authentication.k8s.io/v1"
            return {
                "exec": {"apiVersion": version, "command": str(plugin), "interactiveMode": "Never"}
            }
        case "anonymous":
            return {}
    assert certificate
    if kind == "clientcert":
        return {
            "client-certificate": str(certificate.certificate),
            "client-key": str(certificate.key),
        }
    return {
        "client-certificate-data": _base64(certificate.certificate),
        "client-key-data": _base64(certificate.key),
    }


def write_service_account(directory: Path, *, ca_file: Path, token: str) -> None:
    """Write what a pod finds in /var/run/secrets/kubernetes.io/serviceaccount."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "ca.crt").write_bytes(ca_file.read_bytes())
    (directory / "token").write_text(token)
    (directory / "namespace").write_text("kube-system")


def _base64(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
