"""The bound of a step is the stated sum, and what the machine was seen to do is measured anew and kept at its best."""

import pytest

from rnn_export.benchmark import kernels
from rnn_export.benchmark.limit import Gauge, least_seconds
from rnn_export.spec import RNNSpec
from rnn_export.weights import Weights
from tests.subjects import PATIENCE, random_weights

READ, COMPUTED = 1e9, 1e10  # bytes and operations per second of a machine that is easy to count with


class TestBound:
    def test_alone_a_step_reads_its_matrix(self):
        # 4 * 8 * 8 bytes read, against 2 * 8 * 8 operations in less time; then 2 * 3 * 8 for the input
        assert least_seconds(RNNSpec(3, 8), 1, 4, READ, COMPUTED) == pytest.approx(256e-9 + 4.8e-9)

    def test_in_a_batch_it_computes(self):
        assert least_seconds(RNNSpec(3, 8), 100, 4, READ, COMPUTED) == pytest.approx((12800 + 4800) / COMPUTED)

    def test_every_layer_and_direction_counts_with_the_width_of_its_own_input(self):
        spec = RNNSpec(3, 8, num_layers=2, bidirectional=True)
        one, two = 256e-9 + 2 * 3 * 8 / COMPUTED, 256e-9 + 2 * 16 * 8 / COMPUTED
        assert least_seconds(spec, 1, 4, READ, COMPUTED) == pytest.approx(2 * one + 2 * two)

    def test_a_wider_type_is_more_to_read(self):
        single, double = (least_seconds(RNNSpec(1, 64), 1, size, READ, COMPUTED) for size in (4, 8))
        assert double - single == pytest.approx(4 * 64 * 64 / READ)


class TestGauge:
    def test_it_measures_and_keeps_the_best(self):
        limits = []
        with Gauge(random_weights("rnn:8,24"), 1, PATIENCE) as gauge:
            for _ in range(3):
                gauge.measure()
                limits.append(gauge.limit(2))
        assert gauge.problem == ""
        reads, computes = (
            [getattr(limit, name) for limit in limits] for name in ("bytes_per_second", "operations_per_second")
        )
        assert (sorted(reads), sorted(computes)) == (reads, computes)
        assert reads[0] > 1e8  # a tenth of what a processor of 1999 read from its memory
        assert limits[-1].seconds == least_seconds(RNNSpec(8, 24), 2, 4, reads[-1], computes[-1])

    def test_a_type_without_a_product_has_no_limit(self):
        with Gauge(Weights.random(RNNSpec(3, 4), 0, "float16"), 1, PATIENCE) as gauge:
            gauge.measure()
        assert (gauge.limit(1), gauge.problem) == (None, "numpy has no fast product in float16")

    def test_a_process_that_dies_is_a_problem_and_no_accident(self):
        with Gauge(random_weights("rnn:3,4"), 1, PATIENCE) as gauge:
            gauge.measure()
            gauge._child._kill()
            gauge.measure()
            gauge.measure()
        assert gauge.limit(1) is None
        assert gauge.problem.startswith("CRASHED: ")


class TestKernels:
    @pytest.mark.parametrize("H", [1, 2, 33])
    @pytest.mark.parametrize("kind", ["float32", "float64"])
    def test_each_reads_and_computes_what_it_says(self, H, kind):
        import numpy as np

        dtype = np.dtype(kind)
        found = [*kernels._reading(H, dtype), *kernels._computing(dtype)]
        assert all(amount > 0 for _, amount, _ in found)
        for what, amount, kernel in found:
            answer = kernel()
            assert answer.dtype == dtype
            if what == "operations_per_second":
                assert amount == 2 * answer.size * len(answer)

    def test_a_larger_set_counts_only_where_it_fits(self, monkeypatch):
        import numpy as np

        monkeypatch.setattr(kernels, "MOST_BYTES", 4 * 32 * 32)
        sizes = {amount for what, amount, _ in kernels._reading(32, np.dtype("float32"))}
        assert sizes == {4.0 * 32 * 32 * 256}  # one size, 256 times in a call
