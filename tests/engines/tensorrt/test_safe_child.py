"""A child process never imports from the folder that a command is called in."""

from __future__ import annotations

from pathlib import Path

import pytest

from vita_edge.engines.errors import EngineUnavailable, MissingPackage
from vita_edge.engines.tensorrt.build.build_one import Job
from vita_edge.engines.tensorrt.build.child import run_job


def test_a_build_does_not_run_what_lies_in_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("dataclasses", "json", "numpy", "vita_edge", "usercustomize"):
        (tmp_path / f"{module}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'a').write({module!r})\n")
    monkeypatch.chdir(tmp_path)
    job = Job("codec", tmp_path / "none.onnx", tmp_path / "out", "no-such-library", "sm86", "fp16", (), {})
    with pytest.raises((EngineUnavailable, MissingPackage)) as raised:
        run_job(job, lambda news: None)
    assert "no-such-library" in str(raised.value)  # it came as far as the job
    assert not (tmp_path / "ran").exists()
