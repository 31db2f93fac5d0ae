"""Which form of a page an Accept header asks for."""

import pytest

from nfproxy.servers.negotiation import Encoding, Form, negotiate

TEXT = Form(Encoding.TEXT)
BETA = "v=v1beta1;g=config.k8s.io;as=Flagz"
ALPHA = "v=v1alpha1;g=config.k8s.io;as=Flagz"


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        ("", TEXT),
        ("  ", TEXT),
        ("*/*", TEXT),
        ("text/*", TEXT),
        ("text/plain", TEXT),
        ("TEXT/PLAIN; Charset=UTF-8", TEXT),
        ("text/plain;version=0.0.4", None),
        ("text/html,*/*;q=0.8", TEXT),
        ("text/plain;q=0", None),
        ("text/html", None),
        ("application/json", None),
        (f"application/json;{BETA}", Form(Encoding.JSON, "v1beta1")),
        ("application/json; as=Flagz; g=config.k8s.io; v=v1beta1", Form(Encoding.JSON, "v1beta1")),
        (f"application/json;{ALPHA}", Form(Encoding.JSON, "v1alpha1")),
        (f"application/yaml;{BETA}", Form(Encoding.YAML, "v1beta1")),
        (f"application/json;{BETA}".replace("Flagz", "Statusz"), None),
        (f"application/json;{BETA}".replace("v1beta1", "v1"), None),
        (f"application/json;{BETA}".replace("config", "apps"), None),
        (f"application/json;{BETA},application/json", Form(Encoding.JSON, "v1beta1")),
        (f"application/json,application/yaml;{ALPHA}", Form(Encoding.YAML, "v1alpha1")),
        (f"text/plain;q=0.5,application/json;{BETA};q=0.9", Form(Encoding.JSON, "v1beta1")),
        (f"application/json;{BETA};q=0.1,*/*;q=0.2", TEXT),
        (f"application/json;{BETA};q=none", Form(Encoding.JSON, "v1beta1")),
        (",;,=;;q=nan", None),
        ("*/*;q=nan", TEXT),
        ("é/ü;ö=\x00", None),
    ],
)
def test_the_best_acceptable_form_is_chosen(accept: str, form: Form | None):
    """
    Text by default; the object only with its group, version and kind.
    """
    assert form == negotiate(accept, "Flagz")
