"""Which groups hold a process back, in both versions of control groups."""

from pathlib import Path

import pytest

from pagelab.host.cpu_interference import cpu_groups, throttled_seconds
from pagelab.host.procfs import parse_mounts


def groups(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).mkdir(parents=True, exist_ok=True)
        (root / name / "cpu.stat").write_text("nr_periods 0\n")
    return root


def test_a_quota_of_a_group_above_counts_too(tmp_path: Path) -> None:
    root = groups(tmp_path, ".", "docker", "docker/a b")
    (found,) = {tuple(cpu_groups("0::/docker/a b", parse_mounts(f"1 0 0:9 / {escaped(root)} rw - cgroup2 x rw")))}
    assert found == (root / "docker" / "a b", root / "docker", root)


def test_version_1_has_the_processor_in_a_hierarchy_of_its_own(tmp_path: Path) -> None:
    root = groups(tmp_path / "cpu,cpuacct", "slice")
    groups(tmp_path / "unified", ".")
    table = parse_mounts(
        f"1 0 0:8 / {escaped(tmp_path)}/memory rw - cgroup cgroup rw,memory\n"
        f"2 0 0:9 / {escaped(root)} rw - cgroup cgroup rw,cpu,cpuacct\n"
        f"3 0 0:9 / {escaped(tmp_path)}/unified rw - cgroup2 cgroup rw"
    )
    assert cpu_groups("9:memory:/x\n4:cpu,cpuacct:/slice\n0::/x", table) == [root / "slice"]


def test_within_a_container_the_root_of_the_mount_is_its_group(tmp_path: Path) -> None:
    table = parse_mounts(f"1 0 0:9 / {escaped(groups(tmp_path, '.'))} rw - cgroup2 x rw")
    assert cpu_groups("0::/system.slice/docker-1.scope", table) == [tmp_path]
    assert cpu_groups(None, table) == cpu_groups("0::/", []) == cpu_groups("nonsense", table) == []


def escaped(path: Path) -> str:
    return str(path).replace(" ", "\\040")


@pytest.mark.parametrize(
    ("pairs", "seconds"),
    [
        ({"usage_usec": 1, "throttled_usec": 1_500_000, "nr_bursts": 0}, 1.5),
        ({"nr_periods": 1, "throttled_time": 2_500_000_000}, 2.5),
        ({"usage_usec": 1}, None),
        ({}, None),
    ],
)
def test_what_a_kernel_calls_it(pairs: dict[str, int], seconds: float | None) -> None:
    assert throttled_seconds(pairs) == seconds
