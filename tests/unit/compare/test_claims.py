"""The sentences at the top of a report: of what was measured, with its figures, and no difference that is none."""

from __future__ import annotations

import pytest

from corral.compare import claims, report_html, table
from corral.compare.analysis import tables
from corral.compare.samples import Results, Sample

TITLES = {
    "native": "native process",
    "runc": "container (runc)",
    "corral": "VM (Corral)",
    "corral-clone": "VM (Corral, clone)",
}


def results(measure: str, metric: str, unit: str, values: dict[str, float], rounds: int = 8) -> Results:
    samples = [
        Sample(name, measure, metric, value * (1 + 0.001 * (index % 3)), unit, index, float(index))
        for index in range(rounds)
        for name, value in values.items()
    ]
    return Results(contenders=TITLES, samples=samples)


def sentences(found: Results) -> list[str]:
    return claims.sentences(found, tables(found))


def test_a_start_is_told_of_each_kind_of_machine_against_a_container() -> None:
    found = results("start", "first-line", "ms", {"native": 1.0, "runc": 30.0, "corral": 60.0, "corral-clone": 45.0})
    clone, booted = sentences(found)
    assert clone == "A VM (Corral, clone) says its first line after 45.0 ms, a container (runc) after 30.0: 1.50 x."
    assert booted.endswith("after 60.1 ms, a container (runc) after 30.0: 2.00 x.")


def test_of_rates_and_memory_the_one_with_most_at_once_is_told() -> None:
    found = results("rate-10", "rate", "1/s", {"runc": 20.0, "corral": 10.0})
    found.samples += results("rate-100", "rate", "1/s", {"runc": 40.0, "corral": 10.0}).samples
    found.samples += results("memory-3", "each", "MiB", {"runc": 5.0, "corral": 20.0}).samples
    rate, memory = sentences(found)
    assert rate.startswith(
        "With 100 at once a VM (Corral) starts and ends 10.0 times a second, a container (runc) 40.0"
    )
    assert memory.startswith("Each of 3 instances of a VM (Corral) holds 20.0 MiB of memory, of a container (runc) 5.0")


def test_speed_is_a_share_of_native_whether_more_or_less_is_better() -> None:
    found = results("integer", "hash", "MB/s", {"native": 100.0, "corral": 80.0})
    found.samples += results("linpack", "residual", "eps", {"native": 1.0, "corral": 50.0}).samples
    found.samples += results("stream", "copy", "MB/s", {"native": 10.0, "corral": 10.0}).samples
    found.samples += results("syscall", "getppid", "ns", {"native": 100.0, "corral": 400.0}).samples
    computing, kernel = sentences(found)
    assert computing == "Programs that compute run in VM (Corral) at 0.800 to 1.00 of native speed (integer, stream)."
    assert kernel == "Work of the kernel runs in VM (Corral) at 0.250 of native speed (syscall)."


def test_too_few_rounds_and_samples_that_are_alike_are_said_to_be_so() -> None:
    few = results("start", "first-line", "ms", {"runc": 30.0, "corral": 60.0}, rounds=3)
    assert sentences(few)[0].endswith("fewer than 6 rounds, so no difference is shown.")
    alike = results("start", "first-line", "ms", {"runc": 30.0, "corral": 30.0})
    assert sentences(alike)[0].endswith("no difference that the samples show.")


@pytest.mark.parametrize("values", [{"native": 1.0}, {"runc": 30.0}, {"corral": 30.0}])
def test_what_has_no_peer_makes_no_sentence(values: dict[str, float]) -> None:
    assert sentences(results("start", "first-line", "ms", values)) == []


def test_answers_and_their_chart_come_before_all_else() -> None:
    found = results("start", "first-line", "ms", {"native": 1.0, "runc": 30.0, "corral": 60.0})
    (sentence,) = sentences(found)
    page = report_html.render(found, tables(found))
    assert page.index(sentence) < page.index('class="bar"') < page.index("<nav")
    assert table.text(found, tables(found)).startswith(sentence)
