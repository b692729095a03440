from __future__ import annotations

import io

import pytest

from edgead.cli import _progress
from edgead.cli._progress import RichProgress


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_log_gets_a_line_at_the_start_every_ten_seconds_and_at_the_end(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(_progress.time, "monotonic", lambda: now)
    with RichProgress().task("train", 25) as task:
        for _ in range(25):  # one second each: lines after 10 s and 20 s
            now += 1.0
            task.advance(loss=0.5)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "train: 25 to do",
        "train: 10/25 (40 %), 10 s, loss 0.5",
        "train: 20/25 (80 %), 20 s, loss 0.5",
        "train: 25/25 (100 %), 25 s, loss 0.5",
    ]
    assert "\x1b" not in err
    assert "\r" not in err


def test_quiet_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    progress = RichProgress(quiet=True)
    with progress.task("train", 2) as task:
        task.advance()
        progress.say("hello")
    assert capsys.readouterr() == ("", "")


def test_the_last_line_is_written_when_the_work_fails(capsys: pytest.CaptureFixture[str]) -> None:
    def stopped() -> None:
        with RichProgress().task("train", 4) as task:
            task.advance()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert capsys.readouterr().err.splitlines()[-1].startswith("train: 1/4 (25 %)")


def test_bars_may_be_nested_and_messages_stand_above_them(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = _Terminal()
    monkeypatch.setattr("sys.stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    progress = RichProgress()
    with progress.task("outer", 2) as outer:
        with progress.task("inner [1]", 0) as inner:
            inner.advance(images=3)
            progress.say("a message with [brackets]")
        outer.advance()
    progress.say("after")
    shown = stream.getvalue()
    assert "a message with [brackets]" in shown
    assert "inner [1]" in shown
    assert "images 3" in shown
    assert shown.endswith("after\n")
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l"), "the cursor is shown again"


def test_no_thread_redraws_while_something_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    monkeypatch.setattr("sys.stderr", _Terminal())
    monkeypatch.setenv("TERM", "xterm")
    before = threading.active_count()
    with RichProgress().task("bench", 3) as task:
        task.advance()
        assert threading.active_count() == before
