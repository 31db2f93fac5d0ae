"""Certificates and keys that Python's defaults treat otherwise than Go's."""

from __future__ import annotations

import asyncio
import subprocess

import pytest
from support.client.access import connect, kubeconfig, of
from support.client.certificates import Authority
from support.client.scriptedserver import scripted

from nfproxy.apiserver.access import ClientSettings
from nfproxy.apiserver.connection import Connection
from nfproxy.apiserver.transport import ApiRequest
from nfproxy.errors import ConfigError


def test_an_encrypted_client_key_is_an_error_and_no_question(write, tmp_path, authority):
    """OpenSSL would ask at the terminal. The connection is not made."""
    certificate, key = authority.issue("client")
    for option in ("-aes256", "-traditional"):
        sealed = tmp_path / "sealed.key"
        command = ["openssl", "pkey", "-in", str(key), "-out", str(sealed)]
        command += [*dict.fromkeys((option, "-aes256")), "-passout", "pass:secret"]
        subprocess.run(command, check=True, capture_output=True)
        access = of(write(user={"client-certificate": str(certificate), "client-key": str(sealed)}))
        with pytest.raises(ConfigError, match="client-key: the key is encrypted"):
            connect(access)


def test_an_intermediate_ca_is_trusted_by_itself(run, tmp_path):
    """As kubectl accepts it: the cluster's CA may be signed by one that this node does not know."""
    root = Authority(tmp_path / "root")
    middle = root.below(tmp_path / "middle")

    async def case() -> None:
        async with scripted(middle.server()) as server:
            config = kubeconfig(
                tmp_path / "kubeconfig",
                {"server": server.url, "certificate-authority": str(middle.file)},
            )
            async with Connection(ClientSettings(kubeconfig=str(config)), print) as connection:
                asking = asyncio.create_task(connection.read(ApiRequest("/version")))
                (await server.asked()).reply({})
                assert await asking == b"{}"

    run(case())
