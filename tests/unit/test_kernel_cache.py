"""The folder of compiled kernels: its name changes with whatever changes what they compile to."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tradecore import kernel_cache

REPOSITORY = Path(__file__).parents[2]
CALLEE = "from numba import njit\n\n\n@njit(cache=True)\ndef inner(x):\n    return x * {factor}\n"
CALLER = (
    "from numba import njit\n\nfrom pkg.first._kernels import inner\n\n\n"
    "@njit(cache=True)\ndef outer(x):\n    return inner(x) + 1\n"
)


@pytest.fixture
def include(tmp_path: Path) -> Path:
    """A caller and its callee in two kernel files, a constant, and a file that compiles nothing."""
    include = tmp_path / "include"
    for folder in ("pkg", "pkg/first", "pkg/second"):
        (include / folder).mkdir(parents=True)
        (include / folder / "__init__.py").write_text("")
    (include / "pkg/scale.py").write_text("ONE = 1\n")
    (include / "pkg/shell.py").write_text("print('nothing compiled here')\n")
    (include / "pkg/first/_kernels.py").write_text("from pkg.scale import ONE\n" + CALLEE.format(factor=10))
    (include / "pkg/second/_kernels.py").write_text(CALLER)
    return include


def test_key_changes_with_callee_and_with_imported_constant(include: Path) -> None:
    first = kernel_cache.cache_key(include)
    (include / "pkg/first/_kernels.py").write_text("from pkg.scale import ONE\n" + CALLEE.format(factor=20))
    second = kernel_cache.cache_key(include)
    (include / "pkg/scale.py").write_text("ONE = 2\n")
    third = kernel_cache.cache_key(include)
    (include / "pkg/second/_kernels_more.py").write_text("")
    assert len({first, second, third, kernel_cache.cache_key(include)}) == 4


def test_key_unchanged_by_other_files_and_by_touch(include: Path) -> None:
    before = kernel_cache.cache_key(include)
    (include / "pkg/shell.py").write_text("print('changed')\n")
    os.utime(include / "pkg/first/_kernels.py")
    assert kernel_cache.cache_key(include) == before


def test_key_changes_with_cpu_and_versions(include: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {kernel_cache.cache_key(include)}
    monkeypatch.setattr(kernel_cache, "cpu", lambda: "another")
    keys.add(kernel_cache.cache_key(include))
    monkeypatch.setattr(kernel_cache, "_versions", lambda: ["numba 0.0"])
    keys.add(kernel_cache.cache_key(include))
    assert len(keys) == 3


def test_modules_named_in_a_list_over_several_lines_count(include: Path) -> None:
    (include / "pkg/second/_kernels.py").write_text("from pkg import (  # noqa\n    scale,\n    shell,\n)\n")
    assert include / "pkg/shell.py" in kernel_cache.kernel_files(include)


def test_a_file_that_speaks_of_numba_and_imports_none_of_it_brings_nothing_in(include: Path) -> None:
    """Else what it imports, nearly everything, has all kernels compiled anew with each of its changes."""
    before = kernel_cache.kernel_files(include)
    (include / "pkg/told.py").write_text('"""Warms numba\'s cache."""\n\nfrom pkg import shell\n\nNAMES = ("numba",)\n')
    assert kernel_cache.kernel_files(include) == before
    (include / "pkg/told.py").write_text("from pkg import shell\nimport numpy, numba\n")
    assert {include / "pkg/told.py", include / "pkg/shell.py"} <= set(kernel_cache.kernel_files(include))


def test_the_kernels_of_the_project_hang_on_few_of_its_files() -> None:
    """A change of a page, a query or a setting compiles nothing anew."""
    include = REPOSITORY / "include"
    others = [p for p in kernel_cache.kernel_files(include) if not p.name.startswith("_kernels")]
    assert len(others) < 15, [p.name for p in others]


def test_cpu_reads_features_of_x86_and_arm(tmp_path: Path) -> None:
    arm = tmp_path / "cpuinfo"
    arm.write_text("processor\t: 0\nFeatures\t: fp asimd crc32\nCPU part\t: 0xd08\nBogoMIPS : 1\n")
    assert "asimd" in kernel_cache.cpu(arm)
    assert "BogoMIPS" not in kernel_cache.cpu(arm)
    assert kernel_cache.cpu(tmp_path / "absent") != ""


def test_every_kernel_of_the_project_is_covered() -> None:
    include = REPOSITORY / "include"
    covered = set(kernel_cache.kernel_files(include))
    kernels = set(include.rglob("_kernels*.py"))
    assert kernels, "no kernel found"
    assert kernels <= covered


def test_changed_callee_is_served_stale_without_the_key_and_fresh_with_it(include: Path) -> None:
    """The premise and the remedy, with real numba and its cache across processes."""

    def outer_of_one(cache: Path) -> str:
        environment = {"PYTHONPATH": str(include), "NUMBA_CACHE_DIR": str(cache)}
        code = "from pkg.second._kernels import outer; print(outer(1))"
        done = subprocess.run(
            [sys.executable, "-B", "-c", code], env=environment, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    root = include.parent
    fixed, keyed = root / "fixed", kernel_cache.cache_dir(root)
    assert outer_of_one(fixed) == "11"
    assert outer_of_one(keyed) == "11"
    (include / "pkg/first/_kernels.py").write_text("from pkg.scale import ONE\n" + CALLEE.format(factor=20))
    assert outer_of_one(fixed) == "11", "numba began to notice changed callees: the key may be simplified"
    assert outer_of_one(kernel_cache.cache_dir(root)) == "21"


def test_prune_keeps_the_present_and_the_newest(include: Path) -> None:
    root = include.parent
    present = kernel_cache.cache_dir(root)
    for age, name in enumerate(["a", "b", "c", "d"]):
        (present.parent / name).mkdir(parents=True)
        os.utime(present.parent / name, (1_000 - age, 1_000 - age))
    present.mkdir()
    assert kernel_cache.prune(root) == 2
    assert {path.name for path in present.parent.iterdir()} == {"a", "b", present.name}
