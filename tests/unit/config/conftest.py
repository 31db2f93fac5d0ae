"""Configurations loaded from files that exist for one test."""

import pytest

from nfproxy.config.flags import Flags
from nfproxy.config.load import load
from nfproxy.config.validate import InvalidConfigError

HEADER = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n"


@pytest.fixture
def from_file(tmp_path):
    """Load a file's text, with flags besides."""

    def load_text(text, **flags):
        path = tmp_path / "kp.yaml"
        path.write_text(text)
        return load(Flags.of(config=str(path), **flags))

    return load_text


@pytest.fixture
def configured(from_file):
    """Load a file's body, its head supplied, with flags besides."""
    return lambda body, **flags: from_file(HEADER + body, **flags)


@pytest.fixture
def invalid_values(configured):
    """Return the invalid values of a file's body, or of flags without a file."""

    def of(body=None, **flags):
        with pytest.raises(InvalidConfigError) as caught:
            load(Flags.of(**flags)) if body is None else configured(body, **flags)
        return caught.value.values

    return of
