import pytest

from onnxpipe.errors import InvalidInput
from onnxpipe_bench.desk.budget import Budget, read_bytes, read_percentile, read_share


@pytest.mark.parametrize(("text", "share"), [("0.5%", 0.005), (" 2 % ", 0.02), ("0%", 0.0), ("100%", 1.0)])
def test_shares_are_given_in_percent(text, share):
    assert read_share(text) == pytest.approx(share)


@pytest.mark.parametrize("text", ["0.5", "", "-1%", "101%", "half"])
def test_a_share_that_could_mean_something_else_is_an_error(text):
    with pytest.raises(InvalidInput, match=r"--max-drop: expected a share from 0% to 100%, as in 0.5%, given"):
        read_share(text)


@pytest.mark.parametrize(
    ("text", "size"), [("512MiB", 512 * 2**20), ("1.5GB", 1_500_000_000), ("64 kib", 65536), ("1000", 1000)]
)
def test_sizes_are_in_bytes_or_their_multiples(text, size):
    assert read_bytes(text) == size


@pytest.mark.parametrize("text", ["", "0", "much", "1TB", "-5MB"])
def test_a_size_that_is_none_is_an_error(text):
    with pytest.raises(InvalidInput, match="--memory: expected a size such as 512MiB"):
        read_bytes(text)


def test_a_percentile_is_one_of_four():
    assert read_percentile("p99") == 99
    with pytest.raises(InvalidInput, match="--latency: expected one of p50, p90, p95, p99, given 'mean'"):
        read_percentile("mean")


def test_a_budget_tells_its_bounds():
    told = Budget(max_drop=0.01, memory_bytes=2**29, percentile=99).told
    assert told == "at most 1.00% worse than fp32, at most 512 MiB, fastest at p99"
