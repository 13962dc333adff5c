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
    heading, plain, best, loaded = capsys.readouterr().out.splitlines()
    assert heading == "test accuracy with 297 of 5940 weights:"
    assert plain.split()[1:] == ["relu,", "relu"]
    assert best.split()[0] == loaded.split()[0]
    assert float(best.split()[0]) > 0.3
    assert (tmp_path / "deployed" / "network.safetensors").stat().st_size < 4_000
