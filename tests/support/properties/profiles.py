"""How hypothesis looks for counter-examples here."""

import os

from hypothesis import HealthCheck, Phase, settings

#: No deadline: other work on the machine makes an example slow. No explanations: they trace
#: every line of a walk, which takes minutes.
CALM = settings(
    derandomize=bool(os.environ.get("CI")),
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.target, Phase.shrink],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


#: How many times the usual number of examples. A run for a commit looks at the same ones each time:
#: more of them find what is new only once.
_TIMES = int(os.environ.get("NFPROXY_EXAMPLES", "1"))


def examples(count: int) -> settings:
    """Return settings for a number of examples, or NFPROXY_EXAMPLES times as many."""
    return settings(CALM, max_examples=count * _TIMES)
