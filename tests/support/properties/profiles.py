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


def examples(count: int) -> settings:
    """Return settings for a number of examples."""
    return settings(CALM, max_examples=count)
