"""The manifest: plain, without gaps, and the same as other tools say of this host."""

import json
import os
import platform
import re
import resource
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagelab.host.cpu import cpu_caches, cpu_facts, flags_that_matter
from pagelab.host.environment import debian_packages, host_operating_system, python_packages
from pagelab.host.facts import build_facts, manifest, model_file_facts
from pagelab.host.kernel import machine_facts, memory_nodes, transparent_huge_pages
from pagelab.host.settings import present, setting, settings_in
from pagelab.host.storage import Disk, nvme_facts


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return manifest(tmp_path_factory.mktemp("models"))


def write(directory: Path, files: dict[str, str]) -> Path:
    """Files below a directory, as /sys has them."""
    for name, text in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    return directory


def gaps(value: Any, name: str = "") -> list[str]:
    """Names of the values that say nothing."""
    if isinstance(value, dict):
        inner = [gap for key, item in value.items() for gap in gaps(item, f"{name}.{key}")]
        return inner if value else [name]
    if isinstance(value, list):
        return [gap for item in value for gap in gaps(item, f"{name}[]")]
    return [name] if value is None or value == "" else []


def test_it_is_plain_and_says_nothing_where_nothing_is_known(here: dict[str, Any]) -> None:
    assert json.loads(json.dumps(here, allow_nan=False)) == here
    assert gaps(here) == []


@pytest.mark.parametrize(
    ("names", "file"),
    [
        (("kernel", "command_line"), "/proc/cmdline"),
        (("kernel", "release"), "/proc/sys/kernel/osrelease"),
        (("kernel", "clocksource"), "/sys/devices/system/clocksource/clocksource0/current_clocksource"),
        (("kernel", "vulnerabilities", "meltdown"), "/sys/devices/system/cpu/vulnerabilities/meltdown"),
        (("memory", "vm", "swappiness"), "/proc/sys/vm/swappiness"),
        (("memory", "vm", "page-cluster"), "/proc/sys/vm/page-cluster"),
        (("memory", "vm", "watermark_scale_factor"), "/proc/sys/vm/watermark_scale_factor"),
        (("memory", "multi_generational_lru", "enabled"), "/sys/kernel/mm/lru_gen/enabled"),
        (("memory", "zswap", "enabled"), "/sys/module/zswap/parameters/enabled"),
        (
            ("memory", "transparent_huge_pages", "khugepaged", "defrag"),
            "/sys/kernel/mm/transparent_hugepage/khugepaged/defrag",
        ),
        (("cpu", "frequency", "governor"), "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        (("machine", "product"), "/sys/class/dmi/id/product_name"),
        (("machine", "firmware", "version"), "/sys/class/dmi/id/bios_version"),
    ],
)
def test_it_has_what_the_file_has(here: dict[str, Any], names: tuple[str, ...], file: str) -> None:
    found: Any = here
    for name in names:
        found = found.get(name, {})
    try:
        expected = Path(file).read_text().strip()
    except OSError:
        expected = ""
    assert str(found or "") == expected or found == int(expected)


def test_every_setting_of_the_memory_management_is_there(here: dict[str, Any]) -> None:
    readable = {path.name for path in Path("/proc/sys/vm").iterdir() if path.stat().st_mode & 0o444}
    assert readable - set(here["memory"]["vm"]) <= {"stat_refresh"}
    assert not {"drop_caches", "compact_memory", "stat_refresh"} & set(here["memory"]["vm"])


def test_the_processor_is_that_of_lscpu() -> None:
    answer = subprocess.run(["lscpu", "--json"], capture_output=True, text=True, check=True, env={"LC_ALL": "C"})

    def pairs(entries: list[dict[str, Any]]) -> dict[str, str]:
        found: dict[str, str] = {}
        for entry in entries:
            found |= {entry["field"].rstrip(":"): entry.get("data") or ""} | pairs(entry.get("children", []))
        return found

    told, found = pairs(json.loads(answer.stdout)["lscpu"]), cpu_facts()
    assert found["model"] == told["Model name"]
    assert found["vendor"] == told["Vendor ID"]
    assert (found["family"], found["model_number"]) == (int(told["CPU family"]), int(told["Model"]))
    assert found["logical_cores"] == int(told["CPU(s)"])
    assert found["physical_cores"] == int(told["Core(s) per socket"]) * int(told["Socket(s)"])
    assert set(found["flags"]) <= set(told["Flags"].split())
    assert ("avx2" in found["flags"]) == ("avx2" in told["Flags"].split())
    assert machine_facts()["virtual"] == ("Hypervisor vendor" in told)


def test_the_caches_are_those_of_lscpu() -> None:
    answer = subprocess.run(
        ["lscpu", "--caches=NAME,ONE-SIZE,TYPE,LEVEL,WAYS", "--bytes", "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    told = {(int(one["level"]), one["type"], int(one["one-size"])) for one in json.loads(answer.stdout)["caches"]}
    assert {(one["level"], one["type"], one["size_kib"] * 1024) for one in cpu_caches()} == told


def managed_bytes_of_nodes() -> dict[str, int]:
    """What each node's zones manage. That is less than MemTotal where the kernel hands memory over as it is needed."""
    zones = re.findall(r"^Node (\d+), zone.*?^ +managed +(\d+)", Path("/proc/zoneinfo").read_text(), re.M | re.S)
    found: dict[str, int] = {}
    for node, pages in zones:
        found[f"node{node}"] = found.get(f"node{node}", 0) + int(pages) * os.sysconf("SC_PAGE_SIZE")
    return found


def test_memory_and_limits_are_those_of_the_system(here: dict[str, Any]) -> None:
    assert here["memory"]["page_bytes"] == os.sysconf("SC_PAGE_SIZE")
    assert here["memory"]["total_bytes"] == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    least = managed_bytes_of_nodes()
    nodes = {name: node["total_bytes"] for name, node in memory_nodes().items()}
    most = managed_bytes_of_nodes()
    assert all(least[name] <= total <= most[name] for name, total in nodes.items())
    limits, locked = here["runner"]["limits"], resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    if locked == resource.RLIM_INFINITY:
        assert limits["locked_memory_unlimited"] is True
    else:
        assert limits["locked_memory_bytes"] == locked
    assert limits["open_files"] == resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def test_what_is_of_the_moment_is_set_apart(here: dict[str, Any]) -> None:
    assert here["at_start"]["uptime_seconds"] > 0
    assert {"load_average_1_minute", "memory_available_bytes"} <= set(here["at_start"])


def test_the_runner_s_own_packages_are_listed(here: dict[str, Any]) -> None:
    assert here["runner"]["packages"] == python_packages()
    assert any(package.startswith("gguf==") for package in here["runner"]["packages"])
    assert here["runner"]["python"].endswith(platform.python_version())


def test_swap_is_that_of_the_kernel(tmp_path: Path) -> None:
    lines = Path("/proc/swaps").read_text().splitlines()[1:]
    here = manifest(tmp_path)
    assert [area["path"] for area in here["swap"]] == [line.split()[0] for line in lines]
    for area in here["swap"]:
        if area["kind"] == "file" and "extents" in area:
            # The first page holds the header and is not counted.
            assert area["extents"]["mapped_bytes"] > area["size_bytes"]


def test_what_is_on_no_disk_has_no_disk() -> None:
    found = manifest(Path("/proc"))
    assert not {"models_disk", "models_storage"} & set(found)
    assert found["models_file_system"]["file_system"] == "proc"
    assert gaps(found) == []


def test_a_file_of_a_model(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(os.urandom(300_000))
    facts = model_file_facts(path)
    assert facts["file_bytes"] == 300_000
    assert gaps(facts) == []
    assert json.loads(json.dumps(facts)) == facts
    with pytest.raises(FileNotFoundError):
        model_file_facts(tmp_path / "missing")


def test_settings_of_a_directory(tmp_path: Path) -> None:
    files = {
        "number": "8192",
        "negative": "-1",
        "choice": "always defer [madvise] never",
        "several": "256\t256\t32",
        "words": "write back",
        "hexadecimal": "0x10",
        "empty": "",
        "log": "x" * 5000,
        "left": "1",
        "below/inner": "1",
    }
    assert settings_in(write(tmp_path, files), leave=("left",)) == {
        "number": 8192,
        "negative": -1,
        "choice": "madvise",
        "several": "256 256 32",
        "words": "write back",
        "hexadecimal": "0x10",
    }
    assert settings_in(tmp_path / "missing") == {}
    assert setting(tmp_path / "missing") is None


@given(st.dictionaries(st.text(), st.none() | st.just("") | st.integers() | st.booleans() | st.lists(st.integers())))
def test_only_what_is_unknown_is_left_out(facts: dict[str, Any]) -> None:
    kept = present(facts)
    assert set(facts) - set(kept) == {name for name, value in facts.items() if value is None or value == ""}


def test_a_read_only_trigger_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    assert settings_in(tmp_path) == {}


def test_flags_are_matched_whole() -> None:
    assert flags_that_matter("fpu avx avx512f avx2 sse2 fma fma4 hypervisor amx_tile lm") == [
        *("amx_tile", "avx", "avx2", "avx512f", "fma", "hypervisor")
    ]


def test_numa_nodes(tmp_path: Path) -> None:
    files = {"node0/meminfo": "Node 0 MemTotal:       1000 kB\nNode 0 MemFree: 1 kB", "node0/cpulist": "0-3"}
    files |= {"node10/meminfo": "Node 10 MemTotal:  2000 kB", "node10/cpulist": "", "node10/distance": "21 10"}
    files |= {"node2/cpulist": "4"}
    nodes = memory_nodes(write(tmp_path, files))
    assert list(nodes) == ["node0", "node2", "node10"]
    assert nodes["node0"] == {"total_bytes": 1_024_000, "processors": "0-3"}
    assert nodes["node10"] == {"total_bytes": 2_048_000, "distances": [21, 10]}
    assert memory_nodes(tmp_path / "missing") == {}


def test_huge_pages_of_all_sizes(tmp_path: Path) -> None:
    files = {"enabled": "always [madvise] never", "khugepaged/pages_to_scan": "4096", "khugepaged/full_scans": "7"}
    files |= {"hugepages-2048kB/enabled": "always [inherit] never", "hugepages-64kB/enabled": "[always] inherit never"}
    found = transparent_huge_pages(write(tmp_path, files))
    assert found == {
        "enabled": "madvise",
        "khugepaged": {"pages_to_scan": 4096},
        "modes_by_size": {"64kB": "always", "2048kB": "inherit"},
    }


def test_serial_numbers_of_the_machine_are_left_out(tmp_path: Path) -> None:
    files = {"sys_vendor": "Maker", "product_name": "Box 9", "bios_version": "1.2", "bios_date": "01/02/2026"}
    private = dict.fromkeys(("product_serial", "product_uuid", "board_serial", "chassis_serial"), "secret")
    found = machine_facts(write(tmp_path, files | private))
    assert (found["vendor"], found["product"]) == ("Maker", "Box 9")
    assert found["firmware"]["version"] == "1.2"
    assert "secret" not in json.dumps(found)


NVME = {
    "device/model": "Fast SSD 1TB",
    "device/firmware_rev": "7B2QJXD7",
    "device/serial": "secret",
    "device/transport": "pcie",
    "device/queue_count": "9",
    "device/sqsize": "1023",
    "device/numa_node": "-1",
    "device/device/current_link_speed": "16.0 GT/s PCIe",
    "device/device/current_link_width": "4",
    "size": "2000409264",
    "wwid": "secret",
    "queue/rotational": "0",
    "queue/scheduler": "[none] mq-deadline",
    "queue/read_ahead_kb": "128",
    "queue/logical_block_size": "512",
    "queue/physical_block_size": "4096",
    "queue/write_cache": "write back",
    "queue/wbt_lat_usec": "2000",
    "mq/0/nr_tags": "1023",
    "mq/1/nr_tags": "1023",
}


def test_an_nvme_disk(tmp_path: Path) -> None:
    found = Disk("nvme0n1", write(tmp_path / "nvme0n1", NVME)).describe()
    assert found["model"] == "Fast SSD 1TB"
    assert found["firmware"] == "7B2QJXD7"
    assert found["size_bytes"] == 2000409264 * 512
    assert (found["rotational"], found["scheduler"], found["readahead_kib"], found["hardware_queues"]) == (
        0,
        "none",
        128,
        2,
    )
    assert found["queue"] == {"write_cache": "write back", "wbt_lat_usec": 2000}
    nvme = found["nvme"]
    assert isinstance(nvme, dict)
    assert (nvme["transport"], nvme["queue_entries"], nvme["link_width"]) == ("pcie", 1023, 4)
    assert "secret" not in json.dumps(found)


def test_an_nvme_disk_that_several_paths_lead_to(tmp_path: Path) -> None:
    inner = {name.replace("device/", "device/nvme3/", 1): text for name, text in NVME.items() if "device/" in name}
    device = write(tmp_path, inner | {"device/model": "Fast SSD 1TB"}) / "device"
    assert nvme_facts(device)["link_speed"] == "16.0 GT/s PCIe"


def test_another_disk_has_nothing_of_nvme(tmp_path: Path) -> None:
    found = Disk("sda", write(tmp_path, {"device/rev": "0003", "device/queue_depth": "32"})).describe()
    assert found == {"name": "sda", "firmware": "0003", "device_queue_depth": 32}


def test_packages_of_an_image(tmp_path: Path) -> None:
    status = tmp_path / "status"
    status.write_text(
        "Package: zlib1g\nStatus: install ok installed\nVersion: 1:1.2.13\nDescription: text\n more: of it\n\n"
        "Package: gone\nStatus: deinstall ok config-files\nVersion: 1\n\n"
        "Package: libc6\nStatus: install ok installed\nVersion: 2.36-9\n"
    )
    assert debian_packages(status) == ["libc6=2.36-9", "zlib1g=1:1.2.13"]
    assert debian_packages(tmp_path / "missing") is None


def test_the_container_s_system_is_not_taken_for_the_host_s(monkeypatch: pytest.MonkeyPatch) -> None:
    own = platform.freedesktop_os_release()["PRETTY_NAME"]
    monkeypatch.delenv("PAGELAB_CONTAINER_MODE", raising=False)
    monkeypatch.delenv("PAGELAB_HOST_SYSTEM", raising=False)
    assert host_operating_system() == own
    monkeypatch.setenv("PAGELAB_CONTAINER_MODE", "privileged")
    monkeypatch.setenv("PAGELAB_HOST_SYSTEM", "Some Linux 9")
    assert host_operating_system() == "Some Linux 9"
    runner = manifest(Path("/"))["runner"]
    assert (runner["container_mode"], runner["image_operating_system"]) == ("privileged", own)


def test_the_build_is_taken_over_as_it_is(tmp_path: Path) -> None:
    assert build_facts(tmp_path) == {}
    (tmp_path / "build.json").write_text('{"commit": "b9a3", "files": {"bin/llama-cli": "00ff"}, "flags": ["-DX=ON"]}')
    assert build_facts(tmp_path) == {"commit": "b9a3", "files": {"bin/llama-cli": "00ff"}, "flags": ["-DX=ON"]}
    (tmp_path / "build.json").write_text("[")
    assert build_facts(tmp_path) == {}
