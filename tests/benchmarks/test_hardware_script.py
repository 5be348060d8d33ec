"""The script for other people's machines: what it runs, what it reports, what it keeps quiet."""

import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "hardware.sh"
PARTS = ["libraries", "doctor", "gpu_tests", "realtime", "engines"]
PYTHON = """
echo "python $*" >> "$LOG"
case "$*" in
    *" venv "*) mkdir -p "${@: -1}/bin"; cp "$0" "$VEINTRACK" "${@: -1}/bin" ;;
    *"pip list"*) echo "veintrack==0.1" ;;
    *pytest*test_*) echo "$TESTED" ;;
esac
"""
VEINTRACK = """
echo "veintrack $*" >> "$LOG"
[[ $* != *"$BREAK"* ]] || { echo "it is broken" >&2; exit 3; }
echo "in $HOME/of someone at clinic-7, not someones: /dev/v4l/by-id/usb-12345"
[[ $1 != bench ]] || echo '{"rows": []}' > "${@: -1}"
"""

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def put(tmp_path: Path) -> Callable[[str, str], Path]:
    """Put a fake program on the path."""

    def write(name: str, text: str) -> Path:
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!{shutil.which('bash')}\n{text}\n")
        path.chmod(0o755)
        return path

    return write


@pytest.fixture
def run(tmp_path: Path, put: Callable[[str, str], Path]) -> Run:
    """Run a copy of the script in a checkout of its own, on a machine with no GPU."""
    script = tmp_path / "checkout" / "benchmarks" / SCRIPT.name
    script.parent.mkdir(parents=True)
    shutil.copy(SCRIPT, script)
    (tmp_path / "home").mkdir()
    put("nvidia-smi", "exit 9")
    put("id", "echo someone")
    put("uname", '[[ $1 == -n ]] && echo clinic-7 || echo "Linux 6.1 x86_64"')
    put("python", PYTHON)
    put("veintrack", VEINTRACK)
    environment = {
        **os.environ,
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        "HOME": str(tmp_path / "home"),
        "LOG": str(tmp_path / "log"),
        "VEINTRACK": str(tmp_path / "bin" / "veintrack"),
        "BREAK": "nothing",
        "TESTED": "7 passed in 1.20s",
    }

    def call(*words: str, **more: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            ["bash", str(script), *words],
            cwd=tmp_path,
            env=environment | more,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return call


@pytest.fixture
def venv(tmp_path: Path, run: Run) -> str:
    """Make a virtual environment that is there before."""
    del run  # it puts the programs there
    shutil.copytree(tmp_path / "bin", tmp_path / "venv" / "bin")
    return str(tmp_path / "venv")


def read(tmp_path: Path, name: str = "veintrack-hardware-report.tar.gz") -> dict[str, str]:
    with tarfile.open(tmp_path / name) as report:
        assert all(one.uid == 0 and not one.uname for one in report)
        files = [(one, report.extractfile(one)) for one in report if one.isfile()]
        return {Path(one.name).name: held.read().decode() for one, held in files if held}


def results(report: dict[str, str]) -> dict[str, str]:
    return {one["part"]: one["result"] for one in json.loads(report["report.json"])["parts"]}


def test_every_part_is_run_and_reported(tmp_path: Path, run: Run, venv: str) -> None:
    done = run("--venv", venv, "--realtime-minutes", "4", "--output", "sent/report.tar.gz")
    assert (done.returncode, done.stderr) == (0, "")
    report = read(tmp_path, "sent/report.tar.gz")
    assert results(report) == dict.fromkeys(PARTS, "ok")
    assert report["libraries.txt"] == "veintrack==0.1\n"
    assert json.loads(report["engines.json"]) == json.loads(report["realtime.json"])
    assert "Linux 6.1 x86_64" in report["machine.txt"]
    # What is in it is said, and where it is.
    assert f"written: {tmp_path / 'sent' / 'report.tar.gz'}" in done.stdout
    assert all(name in done.stdout for name in report)
    ran = (tmp_path / "log").read_text()
    assert "pip install" not in ran
    assert "bench --rate 30 --minutes 4" in ran
    assert "bench --engine all --precision all" in ran
    assert "pytest" in ran
    assert not list(tmp_path.glob("checkout/.venv*"))


def test_a_part_that_fails_is_recorded_and_the_rest_goes_on(
    tmp_path: Path, run: Run, venv: str
) -> None:
    done = run("--venv", venv, BREAK="doctor")
    assert done.returncode == 1
    assert "it is broken" in done.stdout
    report = read(tmp_path)
    assert results(report) == dict.fromkeys(PARTS, "ok") | {"doctor": "failed with exit code 3"}
    assert report["doctor.log"] == "it is broken\n"


def test_with_a_gpu_an_engine_is_built_on_it(
    tmp_path: Path, run: Run, venv: str, put: Callable[[str, str], Path]
) -> None:
    put("nvidia-smi", "echo GPU 0: NVIDIA X")
    assert run("--venv", venv).returncode == 0
    assert results(read(tmp_path)) == dict.fromkeys([*PARTS, "build"], "ok")
    assert "veintrack build --device cuda" in (tmp_path / "log").read_text()
    assert run("--venv", venv, BREAK="build").returncode == 1
    assert results(read(tmp_path))["build"] == "failed with exit code 3"


@pytest.mark.parametrize(
    ("gpu", "tested", "result", "status"),
    [
        (False, "8 skipped in 0.05s", "skipped: 8 skipped, none run", 0),
        (True, "8 skipped, 1 warning in 0.05s", "failed: 8 skipped, none run", 1),
        (True, "12 passed, 6 skipped in 60.1s (0:01:00)", "ok, 6 skipped", 0),
    ],
)
def test_tests_that_were_left_out_are_not_taken_for_passed(
    tmp_path: Path,
    run: Run,
    venv: str,
    put: Callable[[str, str], Path],
    gpu: bool,
    tested: str,
    result: str,
    status: int,
) -> None:
    if gpu:
        put("nvidia-smi", "echo GPU 0: NVIDIA X")
    assert run("--venv", venv, TESTED=f"SKIPPED [8] no GPU\n{tested}").returncode == status
    assert results(read(tmp_path))["gpu_tests"] == result


def test_what_takes_too_long_is_stopped_and_said(
    tmp_path: Path, run: Run, venv: str, put: Callable[[str, str], Path]
) -> None:
    put("timeout", '[[ $* != *"engine all"* ]] || exit 124\nshift 4; "$@"')
    assert run("--venv", venv, "--max-minutes", "1").returncode == 1
    assert results(read(tmp_path))["engines"].startswith("stopped after ")


def test_the_report_names_nobody(tmp_path: Path, run: Run, venv: str) -> None:
    run("--venv", venv)
    report = read(tmp_path)
    assert report["doctor.txt"] == "in HOME/of USER at HOST, not someones: /dev/v4l/by-id/DEVICE\n"
    everything = "".join(report.values())
    assert str(tmp_path) not in everything
    assert "clinic-7" not in everything


def test_clocks_and_power_are_noted_where_the_machine_tells_them(
    tmp_path: Path, run: Run, venv: str, put: Callable[[str, str], Path]
) -> None:
    put("nvpmodel", "echo NV Power Mode: MAXN")
    put("jetson_clocks", "echo GPU MaxFreq=1300500000")
    put("tegrastats", 'echo $$ > "$LOG.pid"; echo VDD_IN 5000mW; exec sleep 60')
    run("--venv", venv)
    report = read(tmp_path)
    assert "NV Power Mode: MAXN" in report["machine.txt"]
    assert "MaxFreq" in report["machine.txt"]
    assert report["sensors.txt"] == "VDD_IN 5000mW\n"
    # Nothing is left running.
    assert not Path(f"/proc/{(tmp_path / 'log.pid').read_text().strip()}").exists()


@pytest.mark.parametrize(
    ("machine", "installed", "with_system"),
    [
        ("plain", "/checkout pytest>=8.4", False),
        ("nvidia", "/checkout[tensorrt] pytest>=8.4 cuda-python<13", False),
        ("jetson", "/checkout[tensorrt] pytest>=8.4", True),
    ],
)
def test_it_installs_what_the_machine_can_use(
    tmp_path: Path,
    run: Run,
    put: Callable[[str, str], Path],
    machine: str,
    installed: str,
    with_system: bool,
) -> None:
    if machine == "nvidia":
        put("nvidia-smi", 'echo "Driver Version: 550.1   CUDA Version: 12.4"')
    if machine == "jetson":
        real = shutil.which("grep")
        put("grep", f'[[ $* != *jetson* ]] || exit 0\nexec {real} "$@"')
    done = run("--python", str(tmp_path / "bin" / "python"))
    assert (done.returncode, done.stderr) == (0, "")
    found = results(read(tmp_path))
    assert ("build" in found) == (machine != "plain")
    assert [part for part in found if part != "build"] == ["install", *PARTS]
    venv, _, install, *_ = (tmp_path / "log").read_text().splitlines()
    assert ("--system-site-packages" in venv) == with_system
    assert install == f"python -m pip install {tmp_path}{installed}"


def test_an_installation_that_fails_is_reported_too(
    tmp_path: Path, run: Run, put: Callable[[str, str], Path]
) -> None:
    put("python", "echo no ensurepip >&2; exit 1")
    done = run("--python", str(tmp_path / "bin" / "python"))
    assert done.returncode == 1
    report = read(tmp_path)
    assert results(report) == {"install": "failed: see install.log"}
    assert report["install.log"] == "no ensurepip\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--quick"], "unknown option --quick; see --help"),
        (["--venv"], "--venv needs a value"),
        (["--venv", "gone"], "gone is no virtual environment: it has no bin/python"),
        (["--max-minutes", "soon"], "minutes must be a whole number from 1, got soon"),
        (["--output", "home"], "cannot write home"),
    ],
)
def test_mistakes_are_answered_in_one_line(run: Run, words: list[str], message: str) -> None:
    done = run(*words)
    assert done.returncode == 2
    assert done.stderr == f"hardware.sh: {message}\n"


def test_help_says_what_it_does_and_sends_nothing(tmp_path: Path, run: Run) -> None:
    done = run("--help")
    assert done.returncode == 0
    assert "no host name" in done.stdout
    assert not (tmp_path / "log").exists()


def test_shellcheck_has_nothing_to_say() -> None:
    checker = shutil.which("shellcheck")
    if checker is None:
        pytest.skip("shellcheck is not installed: apt install shellcheck")
    done = subprocess.run([checker, str(SCRIPT)], capture_output=True, text=True, check=False)
    assert done.stdout == ""
