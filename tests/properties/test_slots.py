"""What holds for the arrangement of endpoints in slots."""

from hypothesis import given
from hypothesis import strategies as st
from support.properties.profiles import examples

from nfproxy.reconcile.transition import arrange

destinations = st.integers(0, 9).map(lambda n: bytes([n]))


@given(
    st.lists(destinations, max_size=12),
    st.lists(destinations, unique=True, max_size=10),
)
@examples(300)
def test_slots_hold_what_is_wanted_and_move_the_least(held: list[bytes], wanted: list[bytes]):
    """Exactly the wanted endpoints, dense; one that has a slot it may keep keeps it."""
    result = arrange(held, wanted)
    kept = {d for d in held[: len(wanted)] if d in wanted}
    unchanged = [d for d, old in zip(result, held, strict=False) if d == old]

    assert sorted(wanted) == sorted(result)
    assert kept == set(unchanged)
