import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from edgead.calibration.binomial import rate_lower_bound, rate_upper_bound
from edgead.calibration.threshold import Choice, carried_over, from_good, from_labelled
from edgead.errors import DatasetError, InputError, UsageError


@pytest.mark.parametrize(("events", "trials"), [(0, 1), (0, 40), (2, 40), (39, 40), (7, 152), (500, 10000)])
def test_bounds_are_clopper_pearsons(events: int, trials: int) -> None:
    expected = stats.binomtest(events, trials, alternative="less").proportion_ci(0.95, "exact").high
    assert rate_upper_bound(events, trials) == pytest.approx(expected, abs=1e-9)
    expected = stats.binomtest(events, trials, alternative="greater").proportion_ci(0.95, "exact").low
    assert rate_lower_bound(events, trials) == pytest.approx(expected, abs=1e-9)


def test_no_event_in_forty_and_all_of_them() -> None:
    assert rate_upper_bound(0, 40) == pytest.approx(1 - 0.05 ** (1 / 40))
    assert rate_upper_bound(40, 40) == 1.0
    assert rate_lower_bound(0, 40) == 0.0


def test_a_good_quantile_lies_midway() -> None:
    # 200 scores 1..200, 1 %: two at or above, so between 198 and 199.
    choice = from_good(np.arange(1.0, 201.0), false_positive_rate=0.01)
    assert choice.threshold == 198.5
    assert choice.good_median == 100.5
    assert choice.method["rule"] == "good_quantile"
    assert (choice.method["good_above"], choice.method["images"]) == (2, 200)
    assert choice.method["rate_expected_at_most"] == 3 / 201
    assert choice.method["rate_upper_95"] == pytest.approx(stats.beta.ppf(0.95, 3, 198))


def test_order_does_not_matter() -> None:
    scores = np.random.default_rng(0).normal(size=300)
    assert from_good(scores) == from_good(np.sort(scores))


def test_ties_at_the_quantile_allow_fewer_above() -> None:
    # 3 of 30 may be above; the third and fourth highest are equal, so only two can be.
    choice = from_good([*range(26), 50, 50, 60, 70], false_positive_rate=0.1)
    assert choice.threshold == 55.0
    assert choice.method["good_above"] == 2


def test_too_few_images_go_above_the_highest_by_the_tail() -> None:
    # 1..40: the top quarter 31..40 exceeds 30 by 5.5 on average; ln(1/(40·0.01)) steps up.
    choice = from_good(np.arange(1.0, 41.0), false_positive_rate=0.01)
    assert choice.threshold == pytest.approx(40 + 5.5 * math.log(2.5), rel=1e-6)
    assert choice.method["rule"] == "above_highest_good"
    assert choice.method["good_above"] == 0
    assert choice.method["rate_upper_95"] == pytest.approx(1 - 0.05 ** (1 / 40))
    assert "above the highest of 40 good images" in str(choice.method["text"])
    assert "below 7.2% with 95 % confidence" in str(choice.method["text"])


@pytest.mark.parametrize("family", ["norm", "expon", "lognorm", "gumbel_r", "t"])
def test_forty_scores_of_many_shapes_keep_the_rate_on_average(family: str) -> None:
    shape = {"lognorm": (0.5,), "t": (4,)}.get(family, ())
    distribution = getattr(stats, family)(*shape)
    samples = distribution.rvs(size=(1000, 40), random_state=np.random.default_rng(0))
    rates = distribution.sf([from_good(scores, false_positive_rate=0.01).threshold for scores in samples])
    assert 0.006 < np.mean(rates) < 0.015


def test_the_upper_bound_holds_in_nineteen_of_twenty_calibrations() -> None:
    rng = np.random.default_rng(1)
    held = []
    for _ in range(1000):
        choice = from_good(rng.exponential(size=60), false_positive_rate=0.05)
        held.append(math.exp(-choice.threshold) <= choice.method["rate_upper_95"])  # type: ignore[operator]
    assert np.mean(held) >= 0.94


@pytest.mark.parametrize("scores", [[3.0], [3.0, 3.0, 3.0], [0.0], [-7.0, -7.0]])
def test_scores_without_spread_still_leave_a_margin(scores: list[float]) -> None:
    choice = from_good(scores)
    assert choice.threshold == pytest.approx(scores[0] + max(abs(scores[0]) / 100, 1e-6))
    assert choice.threshold > choice.good_median
    assert choice.method["rule"] == "no_spread"


def test_a_tie_at_the_top_goes_above_it() -> None:
    choice = from_good(np.array([1, 2, 3, 9, 9], np.float32), false_positive_rate=0.2)
    assert choice.threshold > 9
    assert choice.method["good_above"] == 0


@settings(deadline=None)
@given(
    st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=1, max_size=60),
    st.floats(0.001, 0.499),
)
def test_the_threshold_is_above_the_median_and_keeps_the_rate(scores: list[float], rate: float) -> None:
    choice = from_good(np.array(scores, np.float32), false_positive_rate=rate)
    assert choice.threshold > choice.good_median
    assert np.mean(np.array(scores) >= choice.threshold) <= rate
    assert float(np.float32(choice.threshold)) == choice.threshold
    assert choice.method["good_above"] == sum(score >= choice.threshold for score in scores)


def test_the_method_is_json() -> None:
    for choice in (from_good([1.0, 2.0, 3.0]), _labelled(recall=1.0), _labelled()):
        assert json.loads(json.dumps(choice.method)) == choice.method


@pytest.mark.parametrize("rate", [0, 0.5, 1, -0.1, math.nan])
def test_a_rate_out_of_range_is_refused(rate: float) -> None:
    with pytest.raises(UsageError, match="false-positive rate"):
        from_good([1.0, 2.0], false_positive_rate=rate)


def test_scores_that_say_nothing_are_refused() -> None:
    with pytest.raises(DatasetError, match="no scores"):
        from_good([])
    with pytest.raises(InputError, match="1 of 2 scores are NaN"):
        from_good([1.0, math.nan])
    with pytest.raises(DatasetError, match="1 of 2 scores are infinite"):
        from_good([1.0, math.inf])


def _labelled(recall: float | None = None) -> Choice:
    #        good  . . . . . .   anomalous
    scores = [1.0, 2.0, 3.0, 6.0, 5.0, 7.0, 8.0, 10.0]
    labels = [0, 0, 0, 0, 1, 1, 1, 1]
    return from_labelled(scores, labels, good_median=2.5, recall=recall)


def test_highest_f1_of_labelled_images() -> None:
    # >= 4: TP 4, FP 1 -> 8/9. >= 6.5: TP 3, FP 0 -> 6/7.
    choice = _labelled()
    assert choice.threshold == 4.0
    assert choice.method["f1"] == pytest.approx(8 / 9)
    assert choice.method["false_positive_rate"] == 1 / 4
    assert choice.method["rule"] == "max_f1"


@pytest.mark.parametrize(
    ("recall", "threshold", "found"),
    [(1.0, 4.0, 4), (0.75, 6.5, 3), (0.7, 6.5, 3), (0.5, 7.5, 2), (0.01, 9.0, 1)],
)
def test_a_recall_target(recall: float, threshold: float, found: int) -> None:
    choice = _labelled(recall)
    assert choice.threshold == threshold
    assert choice.method["recall"] == found / 4
    assert choice.method["recall_asked"] == recall
    assert choice.method["recall_lower_95"] == pytest.approx(stats.beta.ppf(0.05, found, 5 - found))


def test_a_threshold_stays_above_the_good_median() -> None:
    choice = from_labelled([1.0, 3.0], [0, 1], good_median=2.0, recall=1.0)
    assert choice.threshold == 2.5
    # Without the limit the best F1 calls everything anomalous.
    assert from_labelled([0.0, 1, 2, 3], [1, 1, 0, 1], good_median=2.0).threshold == 2.5


def test_goals_that_only_a_useless_threshold_reaches_are_refused() -> None:
    with pytest.raises(
        DatasetError, match=r"recall 1\.0 needs a threshold of 1, not above the median good score 2"
    ):
        from_labelled([1.0, 3.0, 4.0], [1, 0, 1], good_median=2.0, recall=1.0)
    with pytest.raises(DatasetError, match="no anomalous image scores above 9"):
        from_labelled([1.0, 3.0], [0, 1], good_median=9.0)


def test_labelled_images_without_defects_are_refused() -> None:
    for recall in (None, 0.9):
        with pytest.raises(DatasetError, match="none of 2 labelled images is anomalous"):
            from_labelled([1.0, 2.0], [0, 0], good_median=0.0, recall=recall)
    with pytest.raises(UsageError, match="recall 0"):
        from_labelled([1.0, 2.0], [0, 1], good_median=0.0, recall=0)


def test_a_threshold_is_carried_over_by_the_shift_of_its_neighbours() -> None:
    # 200 good scores 0 … 199 and 40 defects 200 … 239: the 40 nearest to 198.5 are 179 … 218.
    before = np.arange(240.0)
    after = before + np.where(np.abs(before - 198.5) < 20, 3.0, -50.0)
    after[199] -= 60  # the highest good score, as a rounding may have it: a threshold of its own follows it
    choice = carried_over(198.5, before, after, good=200, false_positive_rate=0.01)
    assert choice.threshold == 201.5
    assert choice.good_median == np.median(after[:200])
    assert choice.method["rule"] == "carried_over"
    assert (choice.method["good_above"], choice.method["images"]) == (0, 200)
    assert choice.method["rate_upper_95"] == pytest.approx(1 - 0.05 ** (1 / 200))
    assert "median shift of the 40 images" in str(choice.method["text"])
    assert from_good(after[:200], false_positive_rate=0.01).threshold != pytest.approx(201.5, abs=0.5)


def test_it_stays_where_nothing_moves_and_counts_who_is_above() -> None:
    before = np.arange(1.0, 201.0)
    choice = carried_over(198.5, before, before, good=200)
    assert choice.threshold == 198.5
    assert choice.method["good_above"] == 2
    assert choice.method["rate_expected_at_most"] == 3 / 201


def test_pairs_without_a_finite_score_do_not_count() -> None:
    before, after = np.arange(30.0), np.arange(30.0) + 1
    after[25:] = [np.nan, np.inf, -np.inf, np.nan, np.nan]
    choice = carried_over(18.5, before, after, good=20)
    assert choice.threshold == 19.5
    assert "25 images" in str(choice.method["text"])
    with pytest.raises(InputError):
        carried_over(18.5, before, after, good=26)


def test_scores_that_lost_their_order_get_a_threshold_of_their_own() -> None:
    before = np.arange(100.0)
    after = -before  # the 40 nearest to 98.5 moved by -159 in the median: -60.5, in the lower half
    assert carried_over(98.5, before, after, good=100) == from_good(after)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1e-6, 1.0, 1e6]))
def test_carried_over_it_is_above_the_median_and_a_float32(seed: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    before = rng.normal(size=60).astype(np.float32) * np.float32(scale)
    after = before + rng.normal(size=60).astype(np.float32) * np.float32(scale)
    limit = from_good(before[:50]).threshold
    choice = carried_over(limit, before, after, good=50)
    assert choice.threshold > choice.good_median
    assert choice.threshold == float(np.float32(choice.threshold))
