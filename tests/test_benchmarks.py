"""What the benchmark of speed counts and prints; it runs in an environment of its own."""

import sys
from pathlib import Path

import numpy as np
import pytest

from practical.models.architecture import Architecture

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"
if not FOLDER.is_dir():
    pytest.skip("the benchmarks are not here", allow_module_level=True)
sys.path.append(str(FOLDER))  # its scripts import each other by bare names

import flops  # noqa: E402
import tables  # noqa: E402
import work  # noqa: E402

TINY = Architecture(
    block="basic", stage_sizes=(1, 1), widths=(4, 8), classes=3, stem_width=4, stem_kernel=3,
    stem_stride=1, pool=False,
)  # fmt: skip
# 6x6 pixels, a multiplication and an addition each.
STEM = 2 * 36 * 9 * 3 * 4
FIRST = 2 * (2 * 36 * 9 * 4 * 4)  # two 3x3 convolutions
SECOND = 2 * 9 * 9 * (4 * 8 + 8 * 8)  # of which the first halves the sides
SKIP = 2 * 9 * 4 * 8  # 1x1
DENSE = 2 * 8 * 3
FORWARD = STEM + FIRST + SECOND + SKIP + DENSE


def test_operations_of_a_tiny_network_by_hand():
    assert [layer.flops for layer in flops.layers(TINY, 6)] == [
        STEM, FIRST // 2, FIRST // 2, 2 * 9 * 9 * 4 * 8, 2 * 9 * 9 * 8 * 8, SKIP, DENSE,
    ]  # fmt: skip
    assert flops.forward_flops(TINY, 6) == FORWARD
    assert flops.gradient_flops(TINY, 6) == 2 * FORWARD
    # There and back but for the images, and once more in every kernel that is not 1x1.
    assert flops.spectra_flops(TINY, 6) == 2 * FORWARD - STEM + STEM + FIRST + SECOND


@pytest.mark.parametrize(
    ("options", "giga"),
    [  # 10**9 multiply-adds at 224 pixels, from torchvision's documentation
        ({"block": "basic", "stage_sizes": (2, 2, 2, 2)}, 1.814),
        ({"block": "bottleneck", "stage_sizes": (3, 4, 6, 3), "expansion": 4}, 4.089),
    ],
)
def test_operations_of_torchvisions_networks(options, giga):
    architecture = Architecture(widths=(64, 128, 256, 512), classes=1000, **options)
    np.testing.assert_allclose(flops.forward_flops(architecture, 224) / 2e9, giga, rtol=2e-3)


@pytest.mark.parametrize(
    ("name", "count", "forwards"),
    [  # of each of two images; a gradient is two forwards, and 6 pixels have 3x3 windows of 4
        ("forward", 1, 1),
        ("gradient", 1, 2),
        ("integrated_gradients", 50, 100),
        ("smooth_grad", 32, 64),
        ("occlusion", 3, 1 + 4),
        ("deletion_insertion", 28, 58),
        ("pixel_flipping", 24, 18),  # 6 values at a time: the least divisor of 36 that is above 4
    ],
)
def test_operations_of_a_work(name, count, forwards):
    case = work.Case("tiny", 6, 2)
    assert flops.work_flops(name, count, TINY, case) == 2 * forwards * FORWARD


def test_every_work_has_its_operations_and_a_part_that_is_smaller():
    case = work.CASES["resnet18"]
    for name, (what, full, few, tolerance) in work.WORKS.items():
        assert flops.work_flops(name, full, TINY, case) > 0, what
        assert 1 <= few <= full
        assert 0 < tolerance < 0.1


def test_cases_have_a_name_or_a_size():
    assert work.parse_case("resnet50") == ("resnet50", 224, 16)
    assert work.parse_case("resnet34:97x3") == ("resnet34", 97, 3)
    with pytest.raises(ValueError, match="must be resnet18, resnet50 or NETWORK:SIDExIMAGES"):
        work.parse_case("resnet34")


def test_a_difference_is_relative_and_of_the_same_shapes():
    one = np.full((2, 3), 2.0, np.float32)
    assert work.difference([one, one], [one, 1.5 * one]) == pytest.approx(0.5)
    assert work.difference([one], [one[:1]]) == np.inf
    assert np.isnan(work.difference([one], [one * np.nan]))


@pytest.mark.parametrize("side", [64, 160, 224])
def test_values_are_flipped_in_24_steps(side):
    step, count = work.flipped(side, work.WORKS["pixel_flipping"].full)
    assert (step * count, count) == (3 * side**2, 24)
    assert side**2 % step == 0


def test_maps_have_no_ties():
    maps = work.maps_without_ties((2, 5, 4, 3))
    assert maps.dtype == np.float32
    assert all(np.unique(one).size == 60 for one in maps)


@pytest.mark.parametrize(
    ("time", "text"),
    [(None, "–"), (0.0004567, "0.46 ms"), (0.0123, "12.3 ms"), (0.5, "0.50 s"), (123.4, "123 s")],
)
def test_times_have_three_digits(time, text):
    assert tables.seconds(time) == text


def test_the_tables_name_the_fastest_peer_and_pair_the_rounds():
    result = tables.Result("resnet18:160x8", "forward", "forward", images=8, flops=10**9)
    result.seconds = {"practical": [1.0, 2.0, 3.0], "a": [2.0, 2.0, 4.0], "b": [9.0, 9.0, 1.0]}
    result.differences = {"a": 2e-6, "b": 1e-6}
    result.alone = {
        "practical": {"first": 3.0, "compile": 2.0, "peak": 5e8},
        "a": {"first": 1.0, "compile": None, "peak": 2.5e8},
    }
    assert tables.warm_table([result], 2e9, throughput=True)[2] == (
        "| forward | 2.00 s | 2.00 s | a | 0.75 | 0.50 | 1.00 | 25% | 25% | 2e-06 | 4 | 4 |"
    )
    assert tables.alone_table([result])[2] == (
        "| forward | 3.00 s | 1.00 s | 2.00 s | – | 0.50 | 0.25 | a |"
    )
    assert tables.verdict([result]) == "1 of 1 at most 0.8 of the best peer"
    result.seconds["practical"] = [4.0, 4.0, 4.0]
    assert tables.verdict([result]) == (
        "0 of 1 at most 0.8 of the best peer; above: resnet18:160x8 forward (2.00)"
    )


def test_a_work_without_a_peer_has_a_row():
    result = tables.Result("resnet18:160x8", "forward", "forward", images=8, flops=10**9)
    result.seconds = {"practical": [1.0]}
    (row,) = tables.warm_table([result], 2e9)[2:]
    assert row == "| forward | 1.00 s | – | none |  |  |  | 50% |  |  |"
    assert tables.alone_table([result]) == []
    assert tables.verdict([result]) == "0 of 0 at most 0.8 of the best peer"
