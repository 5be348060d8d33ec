"""Where each vessel is alone in its gate there is nothing to choose."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tracker.association_scene import GATE, expected, found
from veintrack.tracker.association import associate, clear_pairs, mahalanobis2


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 300), st.floats(0, 300)), min_size=1, max_size=6))
def test_where_each_vessel_is_alone_in_its_gate_nothing_else_is_asked(
    places: list[tuple[float, float]],
) -> None:
    tracks = [expected(x, y) for x, y in places]
    detections = [found(x + 1, y - 1) for x, y in reversed(places)]
    states, extra_px2 = [t.state for t in tracks], [t.extra_px2 for t in tracks]
    clear = clear_pairs(states, extra_px2, detections, GATE)
    distance2, _ = mahalanobis2(states, detections)
    alone = bool((np.count_nonzero(distance2 <= GATE, axis=0) == 1).all())
    assert (clear is not None) == alone
    if clear is not None:
        matches = associate(tracks, detections, GATE)
        assert [(t, detections[d]) for t, d in enumerate(clear)] == matches.pairs


def test_a_detection_too_many_or_too_few_leaves_a_choice() -> None:
    state, near, far = expected(50, 50).state, found(50, 50), found(150, 50)
    assert clear_pairs([state], [0.0], [near], GATE) == [0]
    assert clear_pairs([], [], [], GATE) == []
    assert clear_pairs([state], [0.0], [near, far], GATE) is None
    assert clear_pairs([state], [0.0], [far], GATE) is None
    assert clear_pairs([state, expected(150, 50).state], [0.0, 0.0], [near], GATE) is None
