"""The life of a lab on machines that boot a real kernel with systemd and cgroup v2: a test a stage, in this order.

lab1 is a bare Debian 12, lab2 a Debian 13 whose administrator already has a container engine, whose sudo asks for a
password, and whose lab is on an encrypted disk (LVM in LUKS). With N=3 there is lab3 as well, a bare Ubuntu 24.04:
three take longer than CI has.
"""

import base64
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import pytest
import yaml

from lab import eventually, in_terminal, own_faults
from pagelab.store.record import TrialRecord
from pagelab.store.run_store import RunStore, read_trace_record
from time_left import skip_when_late
from virtual_lab.machine import Machine

PROJECT = Path(__file__).parents[2]
STATE_SCRIPT = PROJECT / "ansible" / "roles" / "lab_directory" / "files" / "host-state"
SWAP_MIB = 512

# After which a slow machine leaves something out, or all of it: the whole has to end within 90 minutes.
ANY_MINUTES, ALL_MINUTES, EXPERIMENT_MINUTES = 50, 55, 60

RESERVE_BYTES = 768 << 20  # for the machine itself, of its 1.5 GiB

Machines = dict[str, Machine]
Result = TypeVar("Result")

# 68 MB of weights. On an emulated processor computing takes longer than reading: there are few of them, of the largest
# type, which needs no decoding either (tokens come twice as fast as from as many bytes of Q4_0).
MODEL = {"architecture": "llama", "layers": 8, "width": 384, "feed_forward": 1152, "type": "F32"}


def config(path: Path, **sections: object) -> Path:
    document = {
        "experiment": path.stem,
        "models": [{"name": "dense", "source": {"synthetic": MODEL}}],
        "factors": {"resident": [0.0], "pressure": ["cgroup", "pin"]},
        "repetitions": 1,
        # A thread that waits for another one spins, and takes the processor from it where four are emulated on two.
        "inference": {"prompt": "a", "tokens": 4, "threads": 1},
        "memory": {"swap_minimum": "256MiB", "floor": "16MiB", "os_reserve": RESERVE_BYTES, "fence_reserve": True},
    }
    path.write_text(yaml.safe_dump(document | sections, sort_keys=False))
    return path


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("lab")


@pytest.fixture(scope="module")
def spill(workspace: Path) -> Path:
    return config(workspace / "spill.yml")


@pytest.fixture(scope="module")
def states(machines: Machines) -> dict[str, dict[str, list[str]]]:
    """What the machines were like before anything was done to them, once all that starts with them has started."""
    on_all(machines, lambda machine: machine.sudo("systemctl", "is-system-running", "--wait"))
    return on_all(machines, state)


def on_all(machines: Machines, call: Callable[[Machine], Result]) -> dict[str, Result]:
    """The same for every machine, at the same time."""
    with ThreadPoolExecutor() as pool:
        return dict(zip(machines, pool.map(call, machines.values()), strict=True))


def state(machine: Machine) -> dict[str, list[str]]:
    path = "/tmp/host-state"  # noqa: S108 - of the machine
    machine.ssh("tee", path, stdin=STATE_SCRIPT.read_text(), check=True)
    answer = machine.sudo("python3", path, machine.lab_directory, check=True)
    machine.ssh("rm", path, check=True)
    found: dict[str, list[str]] = json.loads(answer.stdout)
    return found


def make_command(target: str, *words: str, host: str = "lab") -> list[str]:
    return ["make", target, "INVENTORY=inventories/vm", f"HOST={host}", *words]


def make(
    target: str, *words: str, host: str = "lab", cwd: Path = PROJECT, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        make_command(target, *words, host=host),
        cwd=cwd,
        env=os.environ | (environment or {}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=1200,
    )


def shown(answer: subprocess.CompletedProcess[str]) -> str:
    return f"exit {answer.returncode}\n{answer.stdout[-6000:]}\n{answer.stderr[-2000:]}"


def changes(answer: subprocess.CompletedProcess[str]) -> dict[str, int]:
    """The number of changed tasks by host, from the recap."""
    lines = re.findall(r"^(\S+)\s+: ok=\d+\s+changed=(\d+)\s+unreachable=0\s+failed=0", answer.stdout, re.MULTILINE)
    return {host: int(count) for host, count in lines}


def table(answer: subprocess.CompletedProcess[str]) -> dict[str, list[str]]:
    """The last table of checksums: a row a host."""
    return {
        host: row.split()
        for host, row in re.findall(r"^\s*- '?(lab\d)\s+((?:[0-9a-f]{12}\s*)+)'?$", answer.stdout, re.MULTILINE)
    }


def launcher(machine: Machine) -> str:
    return f"{machine.lab_directory}/bin/pagelab"


def swap_of(machine: Machine) -> list[str]:
    return machine.ssh("cat", "/proc/swaps", check=True).stdout.splitlines()[1:]


def assert_in_force(machine: Machine) -> None:
    """Swap is on, at the size that was asked for; the lab's user may lock memory; the engine runs our image."""
    (swap,) = swap_of(machine)
    assert swap.split()[0] == f"{machine.lab_directory}/swapfile"
    assert int(swap.split()[2]) == SWAP_MIB * 1024 - 4
    assert machine.ssh("bash", "-lc", "ulimit -l", check=True).stdout.strip() == "unlimited"
    assert machine.sudo("docker", "info", "--format", "{{.CgroupVersion}}", check=True).stdout.strip() == "2"
    assert machine.sudo(launcher(machine), "version", check=True).stdout.strip()


def restart(machine: Machine) -> None:
    """As when the power fails: harder than a reboot, and faster."""
    before = machine.boot_id()
    machine.ssh("sync", check=True)
    machine.power_cut()
    machine.start()
    machine.wait_for_ssh(other_boot_than=before)


def skip_without(results: Path) -> None:
    """Skip what looks at the results of an experiment that there was no time for."""
    if not results.exists():
        skip_when_late(0)


def trials_of(results: Path, experiment: str, host: str) -> list[TrialRecord]:
    skip_without(results)
    (run,) = (results / experiment / host).glob("*/run.json")
    store = RunStore.open(run.parent)
    record = store.read_run()
    assert record.status == "complete"
    assert record.host == host
    return list(store.read_trials())


@pytest.fixture(scope="module")
def background() -> Iterator[ThreadPoolExecutor]:
    """For what goes on while tests leave a processor here, or a machine, with nothing to do."""
    with ThreadPoolExecutor() as pool:
        yield pool


NOWHERE = {
    "PIP_INDEX_URL": "http://127.0.0.1:9/",
    "PIP_FIND_LINKS": "",
    "http_proxy": "http://127.0.0.1:9",
    "https_proxy": "",
}


@pytest.fixture(scope="module")
def cut_off(workspace: Path, spill: Path, background: ThreadPoolExecutor) -> Future[tuple[Path, Path]]:
    """A checkout with its virtual environment on a controller without a network, and the bundle that it is from."""

    def make_both() -> tuple[Path, Path]:
        bundle = workspace / "bundle.tar"
        written = make("bundle", f"CONFIG={spill}", f"EXTRA=-e bundle_file={bundle}", host="localhost")
        assert written.returncode == 0, shown(written)
        checkout = copy_of_checkout(workspace / "checkout")
        made = make("venv", f"BUNDLE={bundle}", host="localhost", cwd=checkout, environment=NOWHERE)
        assert made.returncode == 0, shown(made)
        return checkout, bundle

    return background.submit(make_both)


def copy_of_checkout(target: Path) -> Path:
    """What git has or would take: no virtual environment, no cache."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(listed, cwd=PROJECT, capture_output=True, text=True, check=True).stdout.split("\0")
    for name in filter(None, names):
        if (PROJECT / name).exists() or (PROJECT / name).is_symlink():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(PROJECT / name, target / name, follow_symlinks=False)
    return target


@pytest.fixture(scope="session", autouse=True)
def in_time() -> None:
    """Before anything is waited for."""
    skip_when_late(ANY_MINUTES)


@pytest.mark.usefixtures("cut_off")  # which needs no machine
def test_a_check_changes_nothing_on_a_bare_host(
    machines: Machines, states: dict[str, dict[str, list[str]]], spill: Path
) -> None:
    answer = make("check", f"CONFIG={spill}", host="lab1")
    assert answer.returncode == 0, shown(answer)
    assert changes(answer)["lab1"] >= 5
    assert state(machines["lab1"]) == states["lab1"]


def test_a_bundle_is_all_it_takes_where_there_is_no_network(
    machines: Machines, spill: Path, cut_off: Future[tuple[Path, Path]]
) -> None:
    for machine in machines.values():
        machine.sudo("ip", "route", "del", "default", check=True)
        assert machine.ssh("ip", "route", "get", "1.1.1.1").returncode != 0, "nothing is in reach"
    checkout, bundle = cut_off.result()
    shutil.copy(PROJECT / "inventories" / "vm" / "hosts.yml", checkout / "inventories" / "vm")
    answer = make("provision", f"CONFIG={spill}", f"BUNDLE={bundle}", cwd=checkout, environment=NOWHERE)
    assert answer.returncode == 0, shown(answer)
    checksums = table(answer)
    assert checksums.keys() == machines.keys()
    assert all(row == checksums["lab1"] for row in checksums.values()), checksums
    assert len(checksums["lab1"]) == 3, "llama.cpp, image, model"
    on_all(machines, assert_in_force)


def test_the_engine_that_was_there_is_used_and_not_replaced(machines: Machines) -> None:
    for name, installed in (("lab1", True), ("lab2", False)):
        record = f"{machines[name].lab_directory}/installed/engine.fact"
        assert (machines[name].sudo("test", "-e", record).returncode == 0) == installed


def test_all_is_in_force_after_a_reboot(machines: Machines) -> None:
    skip_when_late(ALL_MINUTES)
    on_all(machines, restart)
    on_all(machines, assert_in_force)


@pytest.fixture(scope="module")
def tests_there(machines: Machines, workspace: Path) -> str:
    """This project's tests on lab1, with pytest beside them: a directory that its runner can see and write."""
    archive = workspace / "tests.tar.gz"
    needed = ("_pytest", "iniconfig", "packaging", "pluggy", "pygments", "pytest", "py.py")
    with tarfile.open(archive, "w:gz") as tar:
        for name in needed:
            tar.add(Path(pytest.__file__).parents[1] / name, f"packages/{name}", filter=without_bytecode)
        for file in ("lab.py", "conftest.py", "time_left.py", "integration"):
            tar.add(PROJECT / "tests" / file, f"tests/{file}", filter=without_bytecode)
    target = "/var/tmp/pagelab-tests"  # noqa: S108 - of the machine
    machines["lab1"].ssh("mkdir", "-p", f"{target}/results", check=True)
    unpack = f"base64 -d | tar -xz -C {target}"
    machines["lab1"].ssh("sh", "-c", unpack, stdin=base64.b64encode(archive.read_bytes()).decode(), check=True)
    return target


def without_bytecode(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if "__pycache__" in member.name else member


def in_runner(machine: Machine, directory: str, command: str) -> subprocess.CompletedProcess[str]:
    """A command in the runner's container, with a directory of the host's disk as its own."""
    words = [
        f"cd {directory} && PAGELAB_TEST_DIRECTORY={directory}/results",
        f"PYTHONPATH=$PYTHONPATH:{directory}/packages:{directory}/tests PYTHONDONTWRITEBYTECODE=1 {command}",
    ]
    call = f"cd {directory} && {launcher(machine)} shell -c {shlex.quote(' '.join(words))}"
    return machine.sudo("bash", "-c", call, timeout=900)


@pytest.fixture(scope="module")
def known_answers(
    machines: Machines, tests_there: str, background: ThreadPoolExecutor
) -> Future[subprocess.CompletedProcess[str]]:
    """The tests of them, which keep lab1 busy for a while."""
    skip_when_late(ALL_MINUTES)
    options = "-q -p no:cacheprovider --basetemp=results/pytest"
    tests = f"python3 -m pytest {options} tests/integration/test_known_answers.py"
    return background.submit(in_runner, machines["lab1"], tests_there, tests)


def inventory_without_passwords(target: Path) -> Path:
    """The virtual lab's inventory as a directory of its own that tells nobody's password."""
    copy = shutil.copytree(PROJECT / "inventories" / "vm", target)
    hosts = yaml.safe_load((copy / "hosts.yml").read_text())
    for variables in hosts["all"]["children"]["lab"]["hosts"].values():
        variables.pop("ansible_become_password", None)
    (copy / "hosts.yml").write_text(yaml.safe_dump(hosts))
    return copy


def in_vault(directory: Path, secret: str) -> str:
    """A line of an inventory with the sudo password, encrypted."""
    key = directory / "vault-key"
    key.write_text(secret)
    encrypt = [PROJECT / ".venv/bin/ansible-vault", "encrypt_string", "--stdin-name=ansible_become_password"]
    command = [*encrypt, f"--vault-password-file={key}"]
    return subprocess.run(command, input=sudo_password(), capture_output=True, text=True, check=True).stdout


def sudo_password() -> str:
    """That of lab2, which is the one that asks."""
    file = Machine.load("lab2").sudo_password
    assert file is not None
    return file.read_text()


@pytest.mark.usefixtures("known_answers")  # lab1 is busy meanwhile, this is about lab2
@pytest.mark.parametrize("way", ["typed", "vault"])
def test_a_sudo_password_is_typed_or_lies_in_a_vault(machines: Machines, workspace: Path, way: str) -> None:
    inventory = inventory_without_passwords(workspace / way)
    refused = make("collect", f"INVENTORY={inventory}", host="lab2")
    assert refused.returncode != 0
    assert "password" in refused.stdout + refused.stderr, "the machine does ask"
    word, question, answer = "ASK_PASSWORD=1", "BECOME password:", sudo_password()
    if way == "vault":
        word, question, answer = "EXTRA=--ask-vault-pass", "Vault password:", "the key of the vault"
        (inventory / "host_vars").mkdir()
        (inventory / "host_vars" / "lab2.yml").write_text(in_vault(workspace, answer))
    with in_terminal(make_command("collect", f"INVENTORY={inventory}", word, host="lab2"), cwd=PROJECT) as terminal:
        terminal.answer(question, answer)
        code = terminal.process.wait(timeout=300)
    assert code == 0, terminal.text
    assert sudo_password() not in terminal.text


@pytest.mark.usefixtures("known_answers")  # lab1 is busy meanwhile, this is about lab2
def test_a_changed_byte_is_found_and_the_next_provisioning_repairs_it(machines: Machines, spill: Path) -> None:
    lab2 = machines["lab2"]
    binary = f"{lab2.lab_directory}/llama.cpp/pin/bin/llama-cli"
    whole = lab2.ssh("sha256sum", binary, check=True).stdout
    lab2.sudo("dd", "if=/dev/urandom", f"of={binary}", "bs=1", "count=16", "seek=4096", "conv=notrunc", check=True)
    assert lab2.ssh("sha256sum", binary, check=True).stdout != whole
    of_llama = "EXTRA=--tags llama_cpp,llama_cpp_install,runner_image,base_image,toolchain_image,checksums"
    found = make("provision", f"CONFIG={spill}", of_llama, host="lab2")
    assert found.returncode != 0
    assert "lab2: bin/llama-cli" in found.stdout, shown(found)
    repaired = make("provision", f"CONFIG={spill}", of_llama, host="lab2")
    assert repaired.returncode == 0, shown(repaired)
    assert lab2.ssh("sha256sum", binary, check=True).stdout == whole


def test_known_answers_hold_under_cgroup_v2(known_answers: Future[subprocess.CompletedProcess[str]]) -> None:
    answer = known_answers.result()
    assert answer.returncode == 0, shown(answer)
    assert re.search(r"^\d+ passed in ", answer.stdout, re.MULTILINE), shown(answer)


@pytest.fixture
def calling(workspace: Path, spill: Path) -> Iterator[subprocess.Popen[str]]:
    """`make experiment` on both machines, as somebody would call it."""
    skip_when_late(EXPERIMENT_MINUTES)
    with (workspace / "experiment.log").open("w") as log:
        process = subprocess.Popen(
            make_command("experiment", f"CONFIG={spill}", f"RESULTS={workspace / 'results'}"),
            cwd=PROJECT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        yield process
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def finished_trials(machine: Machine) -> int:
    """How many trials are whole on the machine itself."""
    found = machine.ssh("find", f"{machine.lab_directory}/results", "-name", "trial.json")
    return len(found.stdout.splitlines())


def test_an_experiment_outlives_its_connection(
    machines: Machines, workspace: Path, spill: Path, calling: subprocess.Popen[str]
) -> None:
    log = workspace / "experiment.log"

    def first_trial() -> bool:
        time.sleep(0.5)  # every look takes time from the machines
        assert calling.poll() is None, log.read_text()[-6000:]
        return "trial 1/2" in log.read_text()

    eventually(first_trial, "the first trial ends somewhere", seconds=900)
    setting_up = log.read_text().partition("PLAY [Set up the hosts]")[2].partition("PLAY [Start the experiment]")[0]
    assert "TASK [checksums : " in setting_up
    assert "changed: [lab" not in setting_up, "provisioning again changes nothing"
    machines["lab1"].cut_network()
    os.killpg(calling.pid, signal.SIGKILL)
    calling.wait()
    machines["lab1"].restore_network()
    again = make("experiment", f"CONFIG={spill}", f"RESULTS={workspace / 'results'}")
    assert again.returncode == 0 or "invalid trials" in again.stdout, shown(again)
    for name, machine in machines.items():
        trials = trials_of(workspace / "results", "spill", name)
        assert sorted(trial.trial for trial in trials) == [1, 2], "none lost, none run twice"
        assert [fault for trial in trials for fault in own_faults(trial)] == []
        assert finished_trials(machine) == 0, "what is verified here is not kept there"


def test_the_limit_of_cgroup_v2_bound(workspace: Path, machines: Machines) -> None:
    for name in machines:
        trials = trials_of(workspace / "results", "spill", name)
        (limited,) = [trial for trial in trials if trial.factors.pressure == "cgroup"]
        assert limited.limit.effective
        assert (limited.limit.hits or 0) > 0
        assert (limited.reads.decode.model_bytes or 0) > limited.weights_bytes


def test_all_ran_the_same_experiment(workspace: Path, machines: Machines) -> None:
    skip_without(workspace / "results")
    runs = [next((workspace / "results" / "spill" / name).glob("*/run.json")) for name in machines]
    first, *others = (RunStore.open(run.parent).read_run().identity for run in runs)
    assert all(other == first for other in others)


def test_pinning_locks_all_but_the_reserve(machines: Machines, workspace: Path) -> None:
    for name, machine in machines.items():
        trials = trials_of(workspace / "results", "spill", name)
        (pinned,) = [trial for trial in trials if trial.factors.pressure == "pin"]
        total = int(machine.ssh("awk", "/^MemTotal/ {print $2 * 1024}", "/proc/meminfo", check=True).stdout)
        assert (pinned.limit.pinned_bytes or 0) > total - RESERVE_BYTES - 2 * pinned.weights_bytes
        assert pinned.limit.effective


def test_reads_through_lvm_and_luks_are_attributed_by_the_page_cache(workspace: Path) -> None:
    """The disk below has the reads, but not whose they are."""
    skip_without(workspace / "results")
    (run,) = (workspace / "results" / "spill" / "lab2").glob("*/run.json")
    stack = RunStore.open(run.parent).read_run().manifest["models_storage"]
    assert [layer["kind"] for layer in stack] == ["lvm", "crypt", "disk"]
    for trial in trials_of(workspace / "results", "spill", "lab2"):
        traced = read_trace_record(run.parent / "trials" / f"{trial.trial:03d}" / "trace")
        assert [device.name for device in traced.devices] == [stack[-1]["name"]]
        assert all("LVM, LUKS or RAID" in (file.without_extents or "") for file in traced.files)
        model_bytes = trial.reads.decode.model_bytes or 0
        assert model_bytes > trial.weights_bytes
        assert trial.sources.model.page_cache_bytes == pytest.approx(model_bytes, rel=0.01)
        assert trial.sources.model.device_bytes == pytest.approx(model_bytes, rel=0.01)


def test_blktrace_and_tracefs_saw_the_same(machines: Machines, tests_there: str) -> None:
    skip_when_late(EXPERIMENT_MINUTES)
    model = f"$(ls {machines['lab1'].lab_directory}/models/*.gguf)"
    reader = f"python3 tests/integration/recorded_reader.py touched tracefs,blktrace {model} results/traces"
    answer = in_runner(machines["lab1"], tests_there, reader)
    assert answer.returncode == 0, shown(answer)
    said = json.loads(answer.stdout.splitlines()[-1])
    assert said["lost_events"] == {"tracefs": 0, "blktrace": 0}
    directories = "results/traces/tracefs results/traces/blktrace"
    compare = f"python3 tests/integration/compare_traces.py {said['seconds']} {directories}"
    found = json.loads(in_runner(machines["lab1"], tests_there, compare).stdout.splitlines()[-1])
    for name in ("reads", "read_bytes", "pages_sha256"):
        assert found["tracefs"][name] == found["blktrace"][name], name
    assert found["tracefs"]["read_bytes"] == said["disk_read_bytes"]
    assert found["tracefs"]["pages_sha256"] == found["page_cache"]["pages_sha256"]


@pytest.fixture
def btrfs_there(machines: Machines, tests_there: str, workspace: Path) -> Iterator[str]:
    """btrfs over two loop disks of lab1, made here, as what `test_btrfs_disks.py` wants to know of it."""
    skip_when_late(EXPERIMENT_MINUTES)
    machine, names = machines["lab1"], ["first.img", "second.img"]
    environment = os.environ | {"PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}
    if shutil.which("mkfs.btrfs", path=environment["PATH"]) is None:
        pytest.skip("missing: mkfs.btrfs (package btrfs-progs)")
    for name in names:
        with (workspace / name).open("wb") as image:
            os.truncate(image.fileno(), 200 << 20)
    make_it = ["mkfs.btrfs", "-q", "-d", "raid0", "-m", "raid1", *names]
    subprocess.run(make_it, cwd=workspace, env=environment, check=True, capture_output=True)
    packed = subprocess.run(["tar", "--sparse", "-cz", *names], cwd=workspace, check=True, capture_output=True).stdout
    unpack = f"base64 -d | tar --sparse -xz -C {tests_there}"
    machine.ssh("sh", "-c", unpack, stdin=base64.b64encode(packed).decode(), check=True)
    point = f"{tests_there}/results/btrfs"
    attach = "losetup --find --show --direct-io=on"
    steps = [
        f"modprobe loop; modprobe btrfs; mkdir {point}; cd {tests_there}",
        f"first=$({attach} {names[0]}); second=$({attach} {names[1]})",
        f"mount -t btrfs -o device=$first,device=$second $first {point}; echo {point} $first $second",
    ]
    loaded = machine.ssh("test", "-e", "/sys/module/loop").returncode == 0
    given = machine.sudo("bash", "-ec", "; ".join(steps), check=True).stdout.strip()
    yield given
    steps = [f"umount {point}", f"losetup --detach {' '.join(given.split()[1:])}", f"rmdir {point}"]
    steps += [] if loaded else ["modprobe --remove loop"]  # with its disks, which teardown would find
    machine.sudo("bash", "-ec", "; ".join(steps), check=True)


def test_on_btrfs_over_two_disks_its_own_readahead_works(
    machines: Machines, tests_there: str, btrfs_there: str
) -> None:
    """All but the test that switches the loop devices, which the runner need not have."""
    test = "tests/integration/test_btrfs_disks.py"
    options = f"-q -p no:cacheprovider --basetemp=results/pytest-btrfs -k 'not refused' {test}"
    call = f"env PAGELAB_TEST_BTRFS={shlex.quote(btrfs_there)} python3 -m pytest {options}"
    answer = in_runner(machines["lab1"], tests_there, call)
    assert answer.returncode == 0, shown(answer)
    assert re.search(r"^4 passed, 1 deselected in ", answer.stdout, re.MULTILINE), shown(answer)


@pytest.fixture
def full_disk(machines: Machines, tests_there: str) -> Iterator[str]:
    """A directory of lab1 on a small file system that has no room left."""
    skip_when_late(EXPERIMENT_MINUTES)
    machine, point = machines["lab1"], f"{tests_there}/full"
    steps = [
        f"mkdir {point}; truncate --size=16M {tests_there}/full.img; mkfs.ext4 -q {tests_there}/full.img",
        f"mount -o loop {tests_there}/full.img {point}; mkdir {point}/results; chown lab: {point}/results",
        f"dd if=/dev/zero of={point}/filler bs=1k status=none || true",
    ]
    loaded = machine.ssh("test", "-e", "/sys/module/loop").returncode == 0
    machine.sudo("bash", "-ec", "; ".join(steps), check=True)
    yield f"{point}/results"
    steps = [f"umount {point}; rmdir {point}; rm {tests_there}/full.img"]
    steps += [] if loaded else ["modprobe --remove loop"]
    machine.sudo("bash", "-ec", "; ".join(steps), check=True)


def test_results_on_a_full_disk_are_refused_in_one_sentence(machines: Machines, spill: Path, full_disk: str) -> None:
    machine = machines["lab1"]
    config = f"{full_disk.rpartition('/')[0]}.yml"
    machine.ssh("tee", config, stdin=spill.read_text(), check=True)
    for options, code in (("", 3), ("--force", 2)):
        said = machine.sudo("bash", "-c", f"{launcher(machine)} run --results={full_disk} {options} {config}")
        assert said.returncode == code, said
        (sentence,) = [line for line in said.stderr.splitlines() if line.startswith("pagelab: ")]
        assert re.search(r"make room|no room|free", sentence), sentence
        assert "Traceback" not in said.stderr
    assert machine.ssh("find", full_disk, "-type", "f").stdout == ""
    assert "nothing was left" in machine.sudo(launcher(machine), "restore", check=True).stdout


def test_teardown_leaves_the_hosts_as_they_were(machines: Machines, states: dict[str, dict[str, list[str]]]) -> None:
    answer = make("teardown", "YES=1")
    assert answer.returncode == 0, shown(answer)
    said = re.findall(r"(lab\d) is as it was before the lab:", answer.stdout)
    assert sorted(said) == sorted(machines), shown(answer)
    assert all(machine.ssh("test", "-e", machine.lab_directory).returncode == 1 for machine in machines.values())
    after = on_all(machines, state)
    for name, before in states.items():
        assert {subject: sorted(set(after[name][subject]) ^ set(lines)) for subject, lines in before.items()} == {
            subject: [] for subject in before
        }
