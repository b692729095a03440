"""The report: self-contained, well formed, every scenario; and a browser, where there is one, draws it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edgead.benchmarks.environment import record
from edgead.benchmarks.html import Measured, Thumbnail, check_writable, read_accuracy, render, write
from edgead.benchmarks.report import summarise
from edgead.benchmarks.run import Limits, Run
from edgead.benchmarks.scenarios import idle_gap
from edgead.benchmarks.soak import soak
from edgead.benchmarks.sut import SampleLibrary
from edgead.benchmarks.targets import Targets
from edgead.benchmarks.warmup import Warmup
from edgead.errors import InputError, OutputError, RuntimeMissingError

MS = 1_000_000
NO_WARMUP = Warmup(max_queries=1)
ENVIRONMENT = record()


def measured(run: Any, targets: Targets | None = None, name: str = "a:fp32", **values: Any) -> Measured:
    given = targets or Targets()
    facts: dict[str, Any] = {"runtime": "native", "threads": 0, "images": 3, "skipped": {}}
    report = summarise(run, given, ENVIRONMENT, target=name, bundle="<part> & co.edgead", **facts)
    return Measured(report=report, run=run, targets=given, **values)


def run_of(n: int, scenario: str = "single-stream", median_ms: float = 10.0) -> Run:
    latency = (median_ms * MS * np.random.default_rng(n).lognormal(0, 0.2, n)).astype(np.int64)
    done = np.cumsum(latency)
    columns = [done - latency, done - latency, done, latency // 8, latency // 2, latency // 8]
    return Run(
        scenario=scenario,
        rate=None,
        stages=("preprocess", "engine", "post"),
        times=np.stack(columns, axis=1).reshape(-1, 6),
        warmup_queries=10,
        complete=True,
    )


@pytest.fixture
def everything(clock: Any, scripted: Any) -> list[Measured]:
    def durations() -> Any:
        random = np.random.default_rng(2)
        while True:
            yield int(8 * MS * random.lognormal(0, 0.2))

    gaps = idle_gap(
        scripted(durations()),
        SampleLibrary("a"),
        limits=Limits(min_queries=140),
        warmup=NO_WARMUP,
        clock=clock,
    )
    soaked = soak(
        scripted(durations()),
        SampleLibrary("a"),
        limits=Limits(min_queries=9_000),
        limits_ns=[20 * MS],
        warmup=NO_WARMUP,
        clock=clock,
        rss=lambda: 10**8,
    )
    picture = cv2.imencode(".jpg", np.full((40, 60, 3), 90, np.uint8))[1].tobytes()
    thumbnails = (Thumbnail(jpeg=picture, caption="cell <1>.png: OK"),)
    return [
        measured(run_of(3_000), Targets(p99_ns=30 * MS, deadline_ns=12 * MS), thumbnails=thumbnails),
        measured(gaps, name="b:int8"),
        measured(soaked, Targets(p99_ns=20 * MS)),
        measured(run_of(1), name="c:bf16"),
        measured(run_of(0, "paced"), Targets(p99_ns=MS), name="d:fp16"),
    ]


class Outline(HTMLParser):
    """Tags that are opened and closed, what is loaded, and all text."""

    VOID = frozenset({"meta", "link", "img", "br"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loaded: list[str] = []
        self.ids: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "xlink:href", "data", "action"):
                self.loaded.append(value or "")
            if name == "id":
                self.ids.append(value or "")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def outline(text: str) -> Outline:
    parser = Outline()
    parser.feed(text)
    parser.close()
    assert parser.open == []
    return parser


def test_it_loads_nothing_and_runs_nothing(everything: list[Measured]) -> None:
    text = render(everything, {"a:fp32": 0.95})
    found = outline(text)
    assert [link for link in found.loaded if not link.startswith(("#", "data:"))] == []
    assert "<script" not in text
    assert "@import" not in text
    assert not re.search(r"url\((?!#)", text)
    assert len(set(found.ids)) == len(found.ids), "an id stands twice: pictures would mix"
    targets = {link[1:] for link in found.loaded if link.startswith("#")}
    assert targets <= set(found.ids)


def test_the_verdict_comes_first_and_text_is_escaped() -> None:
    one = measured(run_of(1_000), Targets(deadline_ns=1 * MS))
    found = outline(render([one]))
    assert "<part> & co.edgead: latency" in found.text
    body = found.text[found.text.index("GHz") if "GHz" in found.text else 0 :]
    assert body.index("FAIL") < body.index("Figures in ms") < body.index("Where")
    assert "1000 of 1000 queries missed it" in found.text


def test_every_picture_is_well_formed_and_there(everything: list[Measured]) -> None:
    text = render(everything, {"a:fp32": 0.95, "b:int8": 0.9})
    pictures = [ET.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", text, flags=re.S)]
    # accuracy; 4 of single-stream, gaps and stages, 5 of the soak, 4 of one query, none of no query.
    assert len(pictures) == 1 + 4 + 2 + 5 + 4
    for caption in (
        "Latency of every query over time",
        "How often which latency",
        "The latency that so many queries keep to",
        "Where the time goes",
        "Latency after a pause",
        "Memory of the process",
        "p50, p99 and maximum",
        "Image AUROC over the latency in single-stream",
        "Nothing was measured",
        "no leak shown",
    ):
        assert caption in text


def test_the_same_measurement_gives_the_same_page(everything: list[Measured]) -> None:
    assert render(everything) == render(everything)


def test_figures_are_those_of_the_report() -> None:
    one = measured(run_of(3_000))
    text = outline(render([one])).text
    for name in ("p50", "p90", "p99"):
        assert f"{one.report.latency_ms[name]:.3f}" in text
    assert f"engine {one.report.stages_ms['engine']['p50']:.2f} ms" in text


def test_accuracy_is_read_from_a_verification(tmp_path: Path) -> None:
    path = tmp_path / "v.json"
    path.write_text(json.dumps({"passed": True, "targets": {"a:fp32": {"image_auroc": 0.97, "flips": 0}}}))
    assert read_accuracy(path) == {"a:fp32": 0.97}
    for content in ("", "[]", '{"targets": 3}', '{"targets": {"a:fp32": {}}}'):
        path.write_text(content)
        with pytest.raises(InputError, match="no result of a verification"):
            read_accuracy(path)


def test_a_place_that_cannot_be_written(tmp_path: Path, everything: list[Measured]) -> None:
    for path in (tmp_path, tmp_path / "missing" / "r.html"):
        with pytest.raises(OutputError, match="cannot be written"):
            check_writable(path)
    with pytest.raises(OutputError, match="cannot be written"):
        write(tmp_path / "missing" / "r.html", everything[:1])


def test_without_matplotlib_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    with pytest.raises(RuntimeMissingError, match=r"pip install 'edgead\[bench\]'"):
        check_writable(tmp_path / "r.html")


@pytest.fixture
def chromium(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        pytest.skip("no Chromium here")
    options = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--enable-logging=stderr")
    profile = f"--user-data-dir={tmp_path / 'profile'}"
    return lambda *arguments: subprocess.run(
        [browser, *options, profile, *arguments], capture_output=True, text=True, check=True, timeout=300
    )


def test_a_browser_draws_it_without_an_error(
    tmp_path: Path, everything: list[Measured], chromium: Any
) -> None:
    page, shot, paper = tmp_path / "r.html", tmp_path / "r.png", tmp_path / "r.pdf"
    write(page, everything, {"a:fp32": 0.95})
    done = chromium("--window-size=1100,6000", f"--screenshot={shot}", page.as_uri())
    assert "CONSOLE" not in done.stderr, done.stderr
    pixels = cv2.imread(str(shot))
    assert pixels is not None
    assert pixels.shape[:2] == (6_000, 1_100)
    # The verdict's green or red band, blue dots, and text on white: not an empty page.
    fail = (np.abs(pixels.astype(int) - [0x1A, 0x20, 0xA8]).max(axis=2) < 6).sum()
    blue = (np.abs(pixels.astype(int) - [0xB2, 0x72, 0x00]).max(axis=2) < 6).sum()
    assert fail > 10_000
    assert blue > 5_000
    chromium("--no-pdf-header-footer", f"--print-to-pdf={paper}", page.as_uri())
    assert paper.read_bytes().startswith(b"%PDF")
