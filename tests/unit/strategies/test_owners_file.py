"""The owner's own strategy file: what stands in it is what scores."""

import os
import sys

import numpy as np
import pytest

from tradecore import strategies

TEXT = '''
import numpy as np
from tradecore.strategies import strategy

@strategy(lookback_bars=1)
def own_constant(window):
    return np.full(window.close.shape[1], {score})
'''


@pytest.fixture
def bytecode_is_written(monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", False)


@pytest.mark.usefixtures("bytecode_is_written")
def test_an_edit_of_equal_length_within_the_same_second_is_seen(tmp_path, monkeypatch):
    path = tmp_path / "own_constant.py"
    seen = []
    for score in ("1.0", "0.5"):
        monkeypatch.delitem(strategies.REGISTRY, "own_constant", raising=False)
        path.write_text(TEXT.format(score=score))
        os.utime(path, (1_700_000_000, 1_700_000_000))  # the second that Python's bytecode cache goes by
        rule = strategies.load("own_constant", tmp_path)
        seen.append(rule.score(type("Window", (), {"close": np.ones((1, 1))})())[0])
    monkeypatch.delitem(strategies.REGISTRY, "own_constant")
    assert seen == [1.0, 0.5]
    assert not list(tmp_path.rglob("*.pyc"))
