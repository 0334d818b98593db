"""The reverse contrastive loss against a slow transcription of Algorithm 1, and its mining against another library."""

import copy
import itertools
import math
import random
from typing import get_args

import pytest
import torch

from mnistmp.losses import ReverseContrastiveLoss, nearest_neighbours, pairwise_l1, reverse_contrastive_loss
from mnistmp.losses.rescaling import extrema
from mnistmp.losses.reverse_contrastive import SEVERAL, Condition, Mining, Negative, Otherwise, Positive, Scaling

SCALINGS = get_args(Scaling)
READINGS = {
    "positive": get_args(Positive),
    "negative": get_args(Negative),
    "condition": get_args(Condition),
    "otherwise": get_args(Otherwise),
    "distance": ("sum", "mean", "channel-mean"),
    "extrema_gradient": ("kept", "detached"),
    "detach": ("after-scaling", "before-scaling"),
    "mining": get_args(Mining),
}


# ---- the oracle ----


def oracle(
    features, labels, margin, scaling, distance="sum", extrema_gradient="kept", detach="after-scaling", mining="scaled",
    positive="closest", negative="closest", condition="anchor", otherwise="zero",
    epsilon=0.0, generator=None,
):  # fmt: skip
    """Algorithm 1, line by line: a loop over anchors, in it a loop over the others. Returns the loss."""
    maps = features.flatten(2) if features.ndim > 2 else features[:, :, None]  # (N, C, positions)
    count, channels, positions = maps.shape
    kept = maps if extrema_gradient == "kept" else maps.detach()
    place = {
        "coordinate": lambda n, c, k: (c, k), "channel": lambda n, c, k: c,
        "batch": lambda n, c, k: "all", "sample": lambda n, c, k: n,
    }[scaling]  # fmt: skip
    everywhere = list(itertools.product(range(count), range(channels), range(positions)))
    regions = {}
    for n, c, k in everywhere:
        regions.setdefault(place(n, c, k), []).append(kept[n, c, k])
    lows, highs = ({key: extreme(torch.stack(r), pick) for key, r in regions.items()} for pick in (min, max))
    low, high = (torch.stack([found[place(*at)] for at in everywhere]).view_as(maps) for found in (lows, highs))

    def rescaled(values):
        """Section 4.1: "by using the maximum and minimum activation values computed batch-wise"."""
        constant = high.detach() == low.detach()
        return torch.where(constant, 0, (values - low) / (high - low + epsilon + 1.0 * constant)).flatten(1)

    def d(a, b):
        gaps = (a - b).abs()
        return {"sum": gaps.sum(), "mean": gaps.mean(), "channel-mean": gaps.sum() / positions}[distance]

    scaled = rescaled(maps)
    live_positives = scaled.detach() if detach == "after-scaling" else rescaled(maps.detach())
    mined = (maps.flatten(1) if mining == "raw" else scaled).detach()
    gap = [[float((mined[i] - mined[j]).norm(p=2 if mining == "euclidean" else 1)) for j in range(count)]
           for i in range(count)]  # fmt: skip
    draws = {}  # what is drawn, in this order
    for role, choice in (("negative", negative), ("positive", positive)):
        draws[role] = torch.rand(count, count, generator=generator) if choice in ("random", "subset") else None

    def one_of(i, members, choice, draw):
        """The chosen one of `members`; None if there is none."""
        ranked = sorted((j for j in members if choice != "subset" or draw[i, j] < 0.5), key=lambda j: gap[i][j])
        if choice == "random":
            ranked.sort(key=lambda j: draw[i, j])
        elif choice == "farthest":
            ranked.reverse()
        elif choice == "second":
            ranked = ranked[1:]
        if choice == "shifted" and ranked:
            whole_class = [j for j in range(count) if labels[j] == labels[i]]
            return whole_class[members.index(ranked[0])]
        return ranked[0] if ranked else None

    losses, both = [], []
    for i in range(count):
        positives = [j for j in range(count) if labels[j] == labels[i] and j != i]
        negatives = [j for j in range(count) if labels[j] != labels[i]]
        if negative == "mean":
            limit = sum(gap[i][j] for j in negatives) / len(negatives) if negatives else math.inf
        else:
            opponent = one_of(i, negatives, negative, draws["negative"])
            limit = math.inf if opponent is None else gap[i][opponent]

        def pushed(to_positive, limit=limit):
            return margin == math.inf or to_positive < margin * limit

        pushes = []
        if positive == "mean":
            far = [gap[i][j] for j in positives]
            if positives and pushed(min(far) if condition == "closest" else sum(far) / len(far)):
                pushes = positives
        elif positive.startswith("active"):
            pushes = [j for j in positives if pushed(gap[i][j])]
        else:
            chosen = one_of(i, positives, positive, draws["positive"])
            compared = one_of(i, positives, "closest", None) if condition == "closest" else chosen
            pushes = [chosen] if chosen is not None and pushed(gap[i][compared]) else []
            if condition not in ("anchor", "closest") and chosen is not None:
                both.append((i, chosen, opponent))
        total = sum((-d(scaled[i], live_positives[j]) for j in pushes), 0 * scaled[i].sum())
        if otherwise != "zero" and not pushes and margin != math.inf and opponent is not None:
            opposing = (scaled if otherwise == "negative" else scaled.detach())[opponent]
            total = total - (1 if otherwise == "negative-unweighted" else margin) * d(scaled[i], opposing)
        losses.append(total / (1 if positive == "active-sum" else max(len(pushes), 1)))
    if condition in ("anchor", "closest") or margin == math.inf:
        return sum(losses) / count
    if condition in ("class", "batch"):
        total = 0 * scaled.sum()
        for i, p, _ in both:
            members = [b for b in both if condition == "batch" or labels[b[0]] == labels[i]]
            if sum(gap[a][p] for a, p, _ in members) < margin * sum(gap[a][n] for a, _, n in members):
                total = total - d(scaled[i], live_positives[p])
        return total / count
    shape = (channels, positions) if condition.endswith("map") else (channels * positions, 1)
    total = 0 * scaled.sum()
    parts = [[scaled[j].detach().view(shape) for j in trio] for trio in both]  # of anchor, positive and negative
    for a, (i, p, _) in enumerate(both):
        live = (scaled[i] - live_positives[p]).abs().view(shape)
        for part in range(shape[0]):
            near, far = (
                sum(
                    (b[0] - b[other])[part].abs().sum()
                    for b in (parts if condition.startswith("batch") else [parts[a]])
                )
                for other in (1, 2)
            )
            if near < margin * far:
                total = total - live[part].sum()
    return total / count / {"sum": 1, "mean": channels * positions, "channel-mean": positions}[distance]


def extreme(values, pick):
    """Minimum or maximum; those that tie share its gradient."""
    numbers = values.detach().tolist()
    ties = [values[i] for i, number in enumerate(numbers) if number == pick(numbers)]
    return sum(ties) / len(ties)


# ---- batches ----


def batch(name, seed=0):
    """float64 features and labels; every name is a case that has its own way to go wrong."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.rand(10, 3, 2, 2, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, 3, (10,), generator=generator)
    if name == "relu":  # many ties at zero, as behind a ReLU
        features = (features - 0.5).relu()
    elif name == "negative":
        features = features * 4 - 7
    elif name == "singleton classes":
        labels[3], labels[7] = 8, 9
    elif name == "all singletons":
        labels = torch.arange(10)
    elif name == "one class":
        labels[:] = 4
    elif name == "duplicate features":
        features[1], features[5], features[6] = features[0], features[4], features[0]
    elif name == "constant batch":
        features[:] = 0.3
    elif name == "constant coordinates":
        features[:, 1], features[:, 2, 0, 1] = 0, 2.5
    elif name == "two samples":
        features, labels = features[:2], torch.tensor([1, 1])
    elif name == "one sample":
        features, labels = features[:1], labels[:1]
    elif name == "flat":
        features = features.flatten(1)
    elif name == "three dimensions":
        features = features.flatten(2)
    elif name == "channels-last":
        features = features.contiguous(memory_format=torch.channels_last)
    else:
        assert name == "random"
    return features, labels


BATCHES = (
    "random", "relu", "negative", "singleton classes", "all singletons", "one class", "duplicate features",
    "constant batch", "constant coordinates", "two samples", "one sample", "flat", "three dimensions", "channels-last",
)  # fmt: skip


def value_and_gradient(loss, features, labels, *args, **readings):
    features = features.clone().requires_grad_()
    value = loss(features, labels, *args, **readings)
    value.backward()
    return value.detach(), features.grad


def seeded():
    return torch.Generator().manual_seed(11)


def assert_equals_oracle(features, labels, margin, scaling, **readings):
    expected = value_and_gradient(oracle, features, labels, margin, scaling, **readings, generator=seeded())
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 2e-5)):
        value, gradient = value_and_gradient(
            reverse_contrastive_loss, features.to(dtype), labels, margin, scaling, **readings, generator=seeded()
        )
        assert value.dtype == gradient.dtype == dtype and value.shape == ()
        torch.testing.assert_close(value.double(), expected[0], rtol=tolerance, atol=tolerance)
        torch.testing.assert_close(gradient.double(), expected[1], rtol=tolerance, atol=tolerance)
    return expected


@pytest.mark.parametrize("name", BATCHES)
def test_value_and_gradient_equal_the_double_loop(name):
    features, labels = batch(name)
    for margin, scaling, positive in itertools.product((0.8, math.inf), SCALINGS, ("closest", "second", "mean")):
        assert_equals_oracle(features, labels, margin, scaling, positive=positive)


@pytest.mark.parametrize("reading", [(name, one) for name, values in READINGS.items() for one in values], ids="=".join)
def test_every_reading_equals_the_double_loop(reading):
    for name, margin in (("singleton classes", 0.9), ("relu", 1.2)):
        features, labels = batch(name, seed=1)
        features[:, 1] *= 20  # so that neighbours among raw features are others than among scaled ones
        assert_equals_oracle(features, labels, margin, "channel", **dict([reading]))
        assert_equals_oracle(features, labels, math.inf, "channel", **dict([reading]))


def test_random_combinations_equal_the_double_loop():
    for seed in range(40):
        draw = random.Random(seed)
        readings = {name: draw.choice(values) for name, values in READINGS.items()} | {
            "epsilon": draw.choice((0.0, 0.01))
        }
        scaling = draw.choice(SCALINGS)
        if readings["positive"] in SEVERAL or readings["negative"] == "mean":
            readings["condition"] = "anchor"
            readings["otherwise"] = "zero"
        elif readings["otherwise"] != "zero":
            readings["condition"] = "anchor"
        if scaling == "sample":
            # Two samples with their maximum in the same place are both 1 there: rounding would decide the gap's sign,
            # which reaches the gradient in these two readings.
            readings |= {"extrema_gradient": "kept", "detach": "after-scaling"}
        features, labels = batch(draw.choice(("relu", "random", "singleton classes", "flat")), seed)
        assert_equals_oracle(features, labels, draw.choice((0.5, 0.9, 1.2, math.inf)), scaling, **readings)


def test_condition_by_hand():
    # Anchor 0 is .1 and .4 from its positive 1, and .8 and .2 from its negative 2.
    features = torch.tensor([[0.0, 0.0], [0.1, 0.4], [0.8, 0.2], [1.0, 1.0]], dtype=torch.float64)
    labels = torch.tensor([0, 0, 1, 2])
    # Coordinates: both anchors are pushed along the first, .1 < .8 and .1 < .7; the second is .4 against .2.
    assert float(reverse_contrastive_loss(features, labels, 1.0, condition="coordinate")) == pytest.approx(-0.2 / 4)
    assert float(reverse_contrastive_loss(features, labels, 1.0)) == pytest.approx(-1.0 / 4)
    assert float(reverse_contrastive_loss(features, labels, 0.53, condition="batch")) == pytest.approx(-1.0 / 4)
    assert float(reverse_contrastive_loss(features, labels, 0.52, condition="batch")) == 0
    # Both anchors are .5 from their positive and more than .4 times .9 from their negative, the two others have none.
    for kind, strength in (("negative", 0.4), ("negative-detached", 0.4), ("negative-unweighted", 1.0)):
        away = strength * (1.0 + 0.9 + 0.9 + 1.0)
        assert float(reverse_contrastive_loss(features, labels, 0.4, otherwise=kind)) == pytest.approx(-away / 4)


@pytest.mark.parametrize("other", [{"positive": "mean"}, {"negative": "mean"}, {"condition": "batch"}], ids=str)
def test_a_push_from_the_negative_needs_a_condition_of_one_pair(other):
    with pytest.raises(ValueError, match="otherwise is 'negative' with .* it needs one positive, one negative"):
        reverse_contrastive_loss(*batch("random"), 0.9, otherwise="negative", **other)


def test_a_condition_per_coordinate_needs_one_positive_and_one_negative():
    for choice in ({"positive": "mean"}, {"negative": "mean"}):
        with pytest.raises(ValueError, match="needs one positive and one negative"):
            reverse_contrastive_loss(*batch("random"), 0.9, condition="map", **choice)


def test_random_choices_come_from_the_generator_and_differ_from_step_to_step():
    features, labels = batch("random")
    before = torch.get_rng_state()
    for choice in ({"positive": "random"}, {"positive": "subset"}, {"negative": "random"}):
        first, again = (
            [float(reverse_contrastive_loss(features, labels, 1.2, **choice, generator=one)) for _ in range(5)]
            for one in (seeded(), seeded())
        )
        assert first == again and len(set(first)) > 1
    assert torch.equal(torch.get_rng_state(), before)


def test_margins_of_these_tests_separate_pushed_from_spared_anchors():
    features, labels = batch("random")
    shares = [
        float(reverse_contrastive_loss(features, labels, margin, return_active=True)[1])
        for margin in (0, 0.2, 0.6, 0.9, 1.5, math.inf)
    ]
    assert shares == sorted(shares) and shares[0] == 0 and 0 < shares[3] < 1 and shares[-1] == 1


# ---- worked by hand ----


def test_by_hand():
    # One coordinate, already from 0 to 1. Class 0 at 0, .2 and .5; class 1 at .7 and 1.
    features = torch.tensor([[0.0], [0.2], [0.5], [0.7], [1.0]], dtype=torch.float64)
    labels = torch.tensor([0, 0, 0, 1, 1])
    # Distances to the nearest positive .2 .2 .3 .3 .3, to the nearest negative .7 .5 .2 .2 .5.
    assert float(reverse_contrastive_loss(features, labels, math.inf)) == pytest.approx(-1.3 / 5)
    assert float(reverse_contrastive_loss(features, labels, 0.5)) == pytest.approx(-(0.2 + 0.2) / 5)  # .3 > .5 * .5
    assert float(reverse_contrastive_loss(features, labels, 0.9)) == pytest.approx(-(0.2 + 0.2 + 0.3) / 5)
    assert float(reverse_contrastive_loss(features, labels, 0.1)) == 0
    # Anchor 0 is mistaken about 1 and takes itself, 1 takes 0 rightly, 2 takes 1; 3 takes itself, 4 takes 3.
    assert float(reverse_contrastive_loss(features, labels, positive="shifted")) == pytest.approx(-0.8 / 5)
    assert float(reverse_contrastive_loss(features, labels, positive="farthest")) == pytest.approx(-1.9 / 5)
    assert float(reverse_contrastive_loss(features, labels, positive="active-sum")) == pytest.approx(-2.6 / 5)


def test_condition_is_strict():
    features = torch.tensor([[0.0], [0.25], [0.75], [1.0]], dtype=torch.float64)
    labels = torch.tensor([0, 0, 1, 2])
    # Anchor 1: positive at .25, negative at .5, so equality at m = .5. Anchor 0: .25 < .5 * .75.
    assert float(reverse_contrastive_loss(features, labels, 0.5)) == -0.25 / 4


def test_only_anchors_are_moved():
    # Anchor 0's positive is 1, but 1's own positive is 2: with extrema detached, each feels its own push only.
    features = torch.tensor([[0.0], [0.4], [0.5], [1.0]], dtype=torch.float64)
    labels = torch.tensor([0, 0, 0, 1])
    _, gradient = value_and_gradient(
        reverse_contrastive_loss, features, labels, extrema_gradient="detached"
    )  # descent moves 0 down from 1, 1 down from 2, 2 up from 1; 3 has no positive
    assert gradient.flatten().tolist() == [0.25, 0.25, -0.25, 0]


def test_common_shift_and_scale_change_nothing():
    features, labels = batch("random")
    scale = torch.rand(1, 3, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) + 0.5
    for scaling, factor in (("coordinate", scale), ("channel", scale[..., :1, :1]), ("batch", scale[0, 0, 0, 0])):
        expected = reverse_contrastive_loss(features, labels, 0.9, scaling)
        torch.testing.assert_close(reverse_contrastive_loss(3 + factor * features, labels, 0.9, scaling), expected)


def test_order_of_samples_changes_nothing():
    features, labels = batch("relu")
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(2))
    value, gradient = value_and_gradient(reverse_contrastive_loss, features, labels, 0.9)
    other, moved = value_and_gradient(reverse_contrastive_loss, features[order], labels[order], 0.9)
    torch.testing.assert_close(other, value)
    torch.testing.assert_close(moved, gradient[order])


# ---- precision ----


def test_extreme_sizes_stay_finite():
    for size, scaling in itertools.product((1e-40, 1e-30, 1e-20, 1e-18, 1e30), SCALINGS):
        features, labels = batch("relu")
        value, gradient = value_and_gradient(reverse_contrastive_loss, (features * size).float(), labels, 0.9, scaling)
        assert value.isfinite() and gradient.isfinite().all()


@pytest.mark.parametrize("poison", [math.nan, math.inf])
def test_divergence_is_not_hidden(poison):
    features, labels = batch("random")
    features[2, 1, 0, 1] = poison
    for margin, scaling in itertools.product((0.9, math.inf), SCALINGS):
        assert not reverse_contrastive_loss(features, labels, margin, scaling).isfinite()


def test_bfloat16_features_are_summed_in_float32():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(32, 64, 4, 4, generator=generator).relu().bfloat16()
    labels = torch.randint(0, 10, (32,), generator=generator)
    value, gradient = value_and_gradient(reverse_contrastive_loss, features, labels, 0.9)
    assert value.dtype == torch.float32 and gradient.dtype == torch.bfloat16
    torch.testing.assert_close(value, reverse_contrastive_loss(features.float(), labels, 0.9))
    with torch.autocast("cpu", torch.bfloat16):
        inside, _ = value_and_gradient(reverse_contrastive_loss, features, labels, 0.9)
    assert torch.equal(inside, value)


# ---- mining ----


@pytest.mark.parametrize("seed", range(4))
def test_mining_equals_pytorch_metric_learning(seed):
    miners = pytest.importorskip("pytorch_metric_learning.miners")
    distances = pytest.importorskip("pytorch_metric_learning.distances")
    miner = miners.BatchEasyHardMiner(
        pos_strategy="easy", neg_strategy="hard", distance=distances.LpDistance(p=1, normalize_embeddings=False)
    )
    generator = torch.Generator().manual_seed(seed)
    points = torch.randn(48, 20, generator=generator)
    labels = torch.randint(0, 20, (48,), generator=generator)  # so many classes that some have one member
    anchors, positives, _, negatives = miner(points, labels)
    positive, to_positive, to_negative = nearest_neighbours(points, labels)
    assert 0 < len(anchors) < 48 and torch.equal(to_positive.isfinite().nonzero()[:, 0], anchors)
    assert torch.equal(positive[anchors], positives)
    torch.testing.assert_close(to_positive[anchors], (points[anchors] - points[positives]).abs().sum(1))
    torch.testing.assert_close(to_negative[anchors], (points[anchors] - points[negatives]).abs().sum(1))


def test_no_neighbour_is_an_infinite_distance_and_a_valid_index():
    positive, to_positive, to_negative = nearest_neighbours(torch.rand(3, 2), torch.tensor([0, 0, 0]))
    assert to_negative.tolist() == [math.inf] * 3 and to_positive.isfinite().all() and positive[0] != 0
    positive, to_positive, _ = nearest_neighbours(torch.rand(3, 2), torch.tensor([0, 1, 2]))
    assert to_positive.tolist() == [math.inf] * 3 and (positive >= 0).all() and (positive < 3).all()


def test_pairwise_distances_equal_cdist():
    for count in (1, 2, 7):
        points = torch.randn(count, 5, dtype=torch.float64)
        torch.testing.assert_close(pairwise_l1(points), torch.cdist(points, points, p=1))


# ---- the door ----


def test_unknown_reading_is_refused_with_what_is_valid():
    for reading in ("scaling", *READINGS):
        for refuse in (lambda **r: reverse_contrastive_loss(*batch("random"), **r), ReverseContrastiveLoss):
            with pytest.raises(ValueError, match=f"^{reading} is 'sideways'; choose one of .*, .*\\.$"):
                refuse(**{reading: "sideways"})


def test_module_is_the_function():
    features, labels = batch("random")
    module = ReverseContrastiveLoss(0.9, "channel", distance="mean")
    expected = reverse_contrastive_loss(features, labels, 0.9, "channel", distance="mean")
    assert torch.equal(module(features, labels), expected) and torch.equal(
        copy.deepcopy(module)(features, labels), expected
    )
    assert repr(module) == "ReverseContrastiveLoss(margin=0.9, scaling='channel', distance='mean')"
    assert list(module.parameters()) == []
    with pytest.raises(ValueError, match="no option 'colour'; the options are margin, scaling, .*, epsilon"):
        ReverseContrastiveLoss(colour="red")


def test_default_is_the_papers_best_row():
    features, labels = batch("random")
    assert torch.equal(
        reverse_contrastive_loss(features, labels),
        reverse_contrastive_loss(features, labels, math.inf, "coordinate", distance="sum", extrema_gradient="kept",
                                 detach="after-scaling", mining="scaled"),
    )  # fmt: skip


@pytest.mark.parametrize("scaling, axes", [("coordinate", 0), ("channel", (0, 1, 2)), ("batch", (0, 1, 2, 3))])
def test_extrema_share_the_gradient_among_ties_as_autograd_does(scaling, axes):
    values = torch.randint(0, 3, (6, 2, 2, 5)).double().requires_grad_()  # three values: ties everywhere
    own = extrema(values, scaling)
    reference = values.amin(axes, keepdim=True), values.amax(axes, keepdim=True)
    pull = [torch.rand_like(extremum) for extremum in reference]
    assert all(torch.equal(a, b) for a, b in zip(own, reference))
    assert torch.equal(*(torch.autograd.grad(pair, values, pull)[0] for pair in (own, reference)))
