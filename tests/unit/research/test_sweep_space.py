"""Parameter sets by number: the same set whatever the chunks, in the forms that the command line takes."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.stats import qmc

from tradecore.errors import ConfigError
from tradecore.research.sweep import space
from tradecore.research.sweep.space import Axis, axis_of, columns, grid_size, parse_axis

AXES = tuple(parse_axis(text) for text in ("a=1:7:2", "b=0.5:2.5", "c=sma,ema,none", "d=3:9"))


def sets(axes, sample, first, count, seed=11):
    found = columns(axes, sample, seed, first, count)
    return [tuple(values[k] for values in found.values()) for k in range(count)]


@pytest.mark.parametrize(
    "text, axis",
    [
        ("short_period=5:50:5", Axis(name="short_period", values=tuple(range(5, 51, 5)))),
        ("p=3:6", Axis(name="p", values=(3, 4, 5, 6))),
        ("p=0.1:0.4:0.1", Axis(name="p", values=(0.1, 0.2, 0.3, 0.4))),
        ("p=5:16:5", Axis(name="p", values=(5, 10, 15))),
        ("p=0:1.5", Axis(name="p", low=0.0, high=1.5)),
        ("average=sma,ema", Axis(name="average", values=("sma", "ema"))),
        ("on=true,false", Axis(name="on", values=(True, False))),
        ("p=20", Axis(name="p", values=(20,))),
    ],
)
def test_forms_of_an_axis(text, axis):
    assert parse_axis(text) == axis
    assert axis_of(axis.as_record()) == axis


@pytest.mark.parametrize("text", ["p", "p=", "=3", "p=5:1", "p=1:5:0", "p=1:5:-1", "p=a:b", "p=1:2:3:4", "p=3,3",
                                  "p=1,,2", "p=1:nan", "p=nan,5", "p=inf", "p-q=1", "p=0:9e9:1"])  # fmt: skip
def test_what_is_no_axis_says_how_one_is_written(text):
    with pytest.raises(ConfigError) as caught:
        parse_axis(text)
    assert "short_period=5:50:5" in caught.value.next_step


def test_a_grid_is_every_combination_the_last_parameter_fastest():
    axes = tuple(axis for axis in AXES if axis.values)
    assert grid_size(axes) == 4 * 3 * 7
    assert sets(axes, "grid", 0, grid_size(axes)) == list(itertools.product(*(axis.values for axis in axes)))
    with pytest.raises(ConfigError, match="every number between"):
        grid_size(AXES)


@pytest.mark.parametrize("sample", ["grid", "random", "sobol"])
@pytest.mark.parametrize("chunk", [1, 7, 64])
def test_a_set_is_the_same_whatever_the_chunks(sample, chunk):
    axes = tuple(axis for axis in AXES if axis.values) if sample == "grid" else AXES
    whole = sets(axes, sample, 0, 84)
    parts = [s for first in range(0, 84, chunk) for s in sets(axes, sample, first, min(chunk, 84 - first))]
    assert parts == whole
    assert len(set(whole)) > 60, "not exercised"


def test_sobol_is_scipys_sequence_and_random_is_uniform():
    point = qmc.Sobol(2, scramble=True, rng=np.random.default_rng(5)).random(64)
    axes = (Axis(name="x", low=0.0, high=1.0), Axis(name="y", low=0.0, high=1.0))
    assert sets(axes, "sobol", 0, 64, seed=5) == [tuple(p) for p in point.tolist()]
    drawn = np.array(sets(axes, "random", 10**9, 20_000, seed=5))
    assert drawn.min() >= 0.0
    assert drawn.max() < 1.0
    assert np.abs(drawn.mean(axis=0) - 0.5).max() < 4 * np.sqrt(1 / 12 / 20_000)
    assert abs(np.corrcoef(drawn.T)[0, 1]) < 4 / np.sqrt(20_000)
    assert sets(axes, "random", 0, 3, seed=5) != sets(axes, "random", 0, 3, seed=6)


def test_five_parameters_take_two_counters_each():
    axes = tuple(Axis(name=f"p{k}", low=0.0, high=1.0) for k in range(5))
    assert sets(axes, "random", 40, 2) == sets(axes, "random", 0, 60)[40:42]
    assert space.columns((), "grid", 0, 0, 1) == {}
