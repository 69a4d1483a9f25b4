"""tools/gpu_report.py: sections run apart from one another, and what fails is written down."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tools import gpu_report
from tools.benchmarks.gpu import SECTIONS, Scale


def arguments(out: Path, section: str | None = None) -> gpu_report.Arguments:
    return gpu_report.Arguments(device="cpu", tiny=True, out=out, batch=2, section=section)


def test_a_section_on_the_cpu(run: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    options = ["--device", "cpu", "--tiny", "--out", tmp_path, "--only", "gradients"]
    assert run(gpu_report, *options)[0] == 0
    report = json.loads((tmp_path / "report.json").read_text())
    cases = report["sections"]["gradients"]["cases"]
    assert list(cases) == ["spark patches", "spark dense", "fcmae patches", "fcmae dense", "beit"]
    assert all(0 < figures["mask tokens"] < 0.5 for figures in cases.values())
    text = (tmp_path / "report.md").read_text()
    assert "the figures mean nothing" in text
    assert f"| {cases['beit']['in']} " in text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.json", "report.md"]


def test_a_failed_case_is_recorded_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cases(_scale: Scale):
        yield "bad", lambda: 1 / 0
        yield "off", lambda: {"past tolerance": 2}
        yield "good", lambda: {"speed": 12.5}

    monkeypatch.setitem(SECTIONS, "trial", (1.0, cases))
    rows = tmp_path / "rows"
    assert gpu_report.run_section(arguments(rows, "trial")) == 0
    found = [json.loads(line) for line in rows.read_text().splitlines()]
    assert found[0] == {"case": "bad", "error": "ZeroDivisionError: division by zero"}
    assert found[2] == {"case": "good", "speed": 12.5}
    section = {"minutes": 0.1, "cases": {row.pop("case"): row for row in found}, "error": None}
    assert gpu_report.failed(section) == [
        "bad: ZeroDivisionError: division by zero",
        "off: 2 quantities past their tolerance",
    ]
    assert "| good   |" in gpu_report.table(section["cases"])


def test_a_section_that_takes_too_long_is_stopped(tmp_path: Path) -> None:
    section = gpu_report.start_section("goldens", 0.2, arguments(tmp_path))
    assert section["error"] == "stopped after 0.0 minutes"
    assert section["cases"] == {}
    assert gpu_report.start_section("goldens", 0, arguments(tmp_path))["error"].startswith("not")


def test_every_section_has_cases() -> None:
    scale = Scale(torch.device("cpu"), tiny=True)
    cases = {name: [case for case, _ in make(scale)] for name, (_, make) in SECTIONS.items()}
    assert all(cases.values())
    assert sum(minutes for minutes, _ in SECTIONS.values()) <= gpu_report.MINUTES + 2
    assert "patches, bf16, compiled" in cases["pretraining fcmae"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_one_sentence(run: Callable[..., tuple[int, str, str]]) -> None:
    code, _, error = run(gpu_report)
    assert code == 2
    assert error.startswith("error: torch sees no CUDA device")


def test_an_empty_list_of_sections_is_refused(run: Callable[..., tuple[int, str, str]]) -> None:
    code, _, error = run(gpu_report, "--only")
    assert code == 2
    assert error.startswith("error: --only names no section")
