from __future__ import annotations

from pathlib import Path

import pytest
import torch

EXAMPLES = Path(__file__).parent.parent / "examples"


def test_own_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.syspath_prepend(EXAMPLES)
    monkeypatch.chdir(tmp_path)
    import own_network  # type: ignore[import-not-found]

    with torch.random.fork_rng():
        own_network.main()
    printed = capsys.readouterr().out
    rows = {words[0]: words for line in printed.splitlines() if (words := line.split())}
    assert {"dense", "pruned", "SAFS"} <= rows.keys()
    name, difference = printed.splitlines()[-1].rsplit(": ", 1)
    assert name == "largest difference of the export"
    assert float(difference) < 1e-4
    assert (tmp_path / "deployed" / "network.pt2").exists()
