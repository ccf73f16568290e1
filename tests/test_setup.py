"""scripts/setup.sh and scripts/check.sh: messages and decisions, with a Python that pretends.

Nothing is installed and no network is used. The stand-in writes down how pip was called.
"""

import configparser
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TORCH = "2.13.0"
CPU_INDEX = "https://download.pytorch.org/whl/cpu"

# Answers the questions that setup.sh asks a Python and pretends to be its pip; what is left, such
# as checksums, goes to the real one.
STAND_IN = r"""#!/usr/bin/env bash
case "$*" in
"-m venv "*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
"-m pip "*)
    echo "$* CUDA_HOME=${CUDA_HOME-unset} PIP_CONSTRAINT=${PIP_CONSTRAINT-unset}" \
        "DIST_EXTRA_CONFIG=${DIST_EXTRA_CONFIG-unset}" >>"$STUB_CALLS"
    if [[ -n "$STUB_SLOW" && "$*" == *"$STUB_SLOW"* ]]; then
        echo "  compiling libbase.cpp"
        sleep 1.5
    fi
    if [[ -n "$STUB_PIP_FAILS" && "$*" == *"$STUB_PIP_FAILS"* ]]; then
        echo "ERROR: No matching distribution found"
        exit 1
    fi ;;
"-VV") echo "Python $STUB_VERSION" ;;
"- "*) cat >/dev/null ;;
*_base_executable*) echo "$0"; echo "$STUB_VERSION" ;;
*ensurepip*) [ -z "$STUB_NO_VENV" ] ;;
*cuda.is_available*) echo "$STUB_TORCH_WITH_GPU" ;;
*get_path*purelib*) dirname "$0" ;;
*'m.version("torch")'*) echo "torch==$STUB_TORCH_INSTALLED" ;;
*fairseq_cli*) ;;
*) exec "$STUB_REAL_PYTHON" "$@" ;;
esac
"""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="expects Linux's builds of torch")


class Clone:
    """A copy of what setup.sh reads, with a stand-in for Python and a machine to order."""

    def __init__(self, path: Path) -> None:
        self.root = path / "clone"
        self.venv = self.root / ".venv"
        self.done = self.venv / "setup" / "done"
        self.calls = path / "calls"
        for name in ("scripts", "examples/lib.sh", "setup.py", "tsa_fairseq/version.py"):
            target = self.root / name
            target.parent.mkdir(parents=True, exist_ok=True)
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copy(ROOT / name, target)
        self.bin = path / "bin"
        self.bin.mkdir()
        self.python = self.command("python3", STAND_IN)
        self.gpu(False)
        self.environment = {
            **os.environ,
            "PATH": f"{self.bin}:{os.environ['PATH']}",
            # The compiler: any command that is there will do, since nothing is compiled.
            "CC": "true",
            "CXX": "true",
            "CUDA_HOME": "/cuda",
            "STUB_CALLS": str(self.calls),
            "STUB_NO_VENV": "",
            "STUB_PIP_FAILS": "",
            "STUB_REAL_PYTHON": sys.executable,
            "STUB_SLOW": "",
            "STUB_TORCH_INSTALLED": f"{TORCH}+cpu",
            "STUB_TORCH_WITH_GPU": "",
            "STUB_VERSION": "3.11",
        }
        for name in ("BUILD", "PIP_CONSTRAINT", "PYTHON", "TORCH"):
            self.environment.pop(name, None)

    def command(self, name: str, text: str) -> Path:
        path = self.bin / name
        path.write_text(text)
        path.chmod(0o755)
        return path

    def gpu(self, present: bool) -> None:
        self.command("nvidia-smi", f"#!/bin/sh\nexit {0 if present else 9}\n")

    def setup(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
        # Each run's calls of pip for themselves.
        self.calls.write_text("")
        return subprocess.run(
            ["bash", self.root / "scripts" / "setup.sh", *arguments],
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
        )

    def pip(self, word: str) -> list[str]:
        return [line for line in self.calls.read_text().splitlines() if word in line]

    def refuses(self, *arguments: str, **environment: str) -> str:
        """The one line of a run that must fail, without its 'error: '."""
        run = self.setup(*arguments, **environment)
        assert run.returncode != 0
        assert run.stderr.startswith("error: ") and run.stderr.count("\n") == 1, run.stderr
        assert not self.done.exists()
        return run.stderr.removeprefix("error: ").rstrip()


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    return Clone(tmp_path)


def has_python_headers() -> bool:
    return (Path(sysconfig.get_paths()["include"]) / "Python.h").exists()


needs_headers = pytest.mark.skipif(not has_python_headers(), reason="needs the headers of Python")


def test_unknown_argument(clone):
    assert clone.refuses("--fast") == ("unknown argument '--fast'; setup.sh takes none but --help")


@pytest.mark.parametrize("script", ["setup.sh", "check.sh"])
def test_help(script):
    run = subprocess.run(
        ["bash", ROOT / "scripts" / script, "--help"], capture_output=True, text=True, check=True
    )
    assert run.stdout.startswith(f"usage: bash scripts/{script}")


def test_check_refuses_unknown_argument():
    run = subprocess.run(
        ["bash", ROOT / "scripts" / "check.sh", "--fast"], capture_output=True, text=True
    )
    assert run.returncode == 1
    assert run.stderr == (
        "error: unknown argument '--fast'; "
        "expected --slow, --kernel, --help, or -- and arguments for pytest\n"
    )


def test_missing_python(clone):
    assert clone.refuses(PYTHON="python9").startswith("PYTHON: no command 'python9'; name a Python")


def test_broken_python(clone):
    assert clone.refuses(PYTHON="false") == "PYTHON: 'false' does not run as a Python"


@pytest.mark.parametrize("version", ["2.7", "3.10", "3.14"])
def test_other_python(clone, version):
    message = clone.refuses(STUB_VERSION=version)
    assert message.startswith(f"PYTHON: 'python3' is Python {version}; the pinned versions need")


def test_no_venv_module(clone):
    message = clone.refuses(STUB_NO_VENV="1")
    assert message.endswith(
        "has no venv module: install it (Debian and Ubuntu: apt install python3.11-venv)"
    )


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("new", "TORCH: got 'new'; expected a version such as 2.11.0"),
        ("2.2.1", "TORCH: got '2.2.1'; expected 2.4.0 or newer"),
        ("1.13.1", "TORCH: got '1.13.1'; expected 2.4.0 or newer"),
    ],
)
def test_torch_version(clone, given, expected):
    assert clone.refuses(TORCH=given) == expected


@pytest.mark.parametrize("compiler", ["CC", "CXX"])
def test_no_compiler(clone, compiler):
    message = clone.refuses(**{compiler: "no-such-compiler -O2"})
    assert message.startswith("no C++ compiler ('no-such-compiler' not found)")
    assert message.endswith("install one (Debian and Ubuntu: apt install build-essential)")
    assert not clone.venv.exists() and not clone.pip("install")


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the wheel is for x86_64")
def test_no_compiler_is_needed_for_the_wheel(clone):
    assert clone.setup(STUB_VERSION="3.12", CC="no-such-compiler").returncode == 0


def test_environment_of_somebody_else(clone):
    clone.venv.mkdir()
    (clone.venv / "theirs").touch()
    assert clone.refuses(CC="true").endswith(
        "was not made by scripts/setup.sh: move it away, or remove it"
    )
    assert (clone.venv / "theirs").exists()


@needs_headers
def test_without_gpu_only_a_cpu_build_is_asked_for(clone):
    run = clone.setup()
    assert run.returncode == 0, run.stderr
    steps = re.findall(r"^==> \[(\d)/5\] ", run.stdout, re.MULTILINE)
    assert steps == ["1", "2", "3", "4", "5"]
    (torch,) = clone.pip("torch==")
    assert f"torch=={TORCH}+cpu" in torch and "index-url" not in torch


@needs_headers
def test_without_gpu_pytorch_index_is_asked_second(clone):
    message = clone.refuses(STUB_PIP_FAILS="torch==")
    assert message.startswith("step 2 of 5 failed (No matching distribution found)")
    assert CPU_INDEX in message and f"does it have torch {TORCH} for Python 3.11?" in message
    first, second = clone.pip("torch==")
    assert f"torch=={TORCH}+cpu" in first and "index-url" not in first
    assert f"--index-url {CPU_INDEX} torch=={TORCH}+cpu" in second


@needs_headers
def test_with_gpu_the_ordinary_build(clone):
    clone.gpu(True)
    run = clone.setup(STUB_TORCH_INSTALLED=TORCH)
    assert run.returncode == 0, run.stderr
    (torch,) = clone.pip("torch==")
    assert f" torch=={TORCH} " in torch


@needs_headers
def test_with_gpu_a_torch_that_is_there_is_kept(clone):
    clone.gpu(True)
    kept = "2.7.1+cu128"
    run = clone.setup(STUB_TORCH_WITH_GPU=kept, STUB_TORCH_INSTALLED=kept)
    assert run.returncode == 0, run.stderr
    assert f"torch {kept} of" in run.stdout
    assert not clone.pip("torch==")
    assert (clone.venv / "setup" / "constraints.txt").read_text() == f"torch=={kept}\n"
    assert list(clone.venv.glob("**/packages_of_python.pth"))


@needs_headers
def test_with_gpu_a_torch_too_old_is_refused(clone):
    message = clone.refuses(STUB_TORCH_WITH_GPU="2.1.0+cu118")
    assert message.startswith("torch 2.1.0+cu118 of ") and f"TORCH={TORCH} bash" in message


@needs_headers
def test_torch_that_is_asked_for_is_installed_beside_the_one_that_is_there(clone):
    clone.gpu(True)
    run = clone.setup(TORCH="2.11.0", STUB_TORCH_WITH_GPU="2.7.1", STUB_TORCH_INSTALLED="2.11.0")
    assert run.returncode == 0, run.stderr
    assert clone.pip(" torch==2.11.0 ")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("gpu", "BUILD: got 'gpu'; expected cuda or cpu"),
        ("CUDA", "BUILD: got 'CUDA'; expected cuda or cpu"),
    ],
)
def test_build_of_torch(clone, given, expected):
    assert clone.refuses(BUILD=given) == expected


@needs_headers
@pytest.mark.parametrize("build", ["cuda", "cpu"])
def test_build_that_is_asked_for_whatever_the_machine_has(clone, build):
    """A cluster's login node has no GPU, and what it installs runs where there is one."""
    clone.gpu(build == "cpu")
    wanted = {"cuda": TORCH, "cpu": f"{TORCH}+cpu"}[build]
    run = clone.setup(BUILD=build, STUB_TORCH_WITH_GPU="2.7.1", STUB_TORCH_INSTALLED=wanted)
    assert run.returncode == 0, run.stderr
    (torch,) = clone.pip("torch==")
    assert torch.split(" --no-deps")[-1].split(" CUDA_HOME")[0].split()[-1] == f"torch=={wanted}"
    # It is remembered.
    again = clone.setup(STUB_TORCH_INSTALLED=wanted)
    assert "is up to date" in again.stdout and not clone.pip("torch==")
    # To pip both are one version: only a new environment gets the other.
    (clone.venv / "kept").touch()
    other = {"cuda": "cpu", "cpu": "cuda"}[build]
    assert clone.setup(BUILD=other).returncode == 0
    assert not (clone.venv / "kept").exists() and clone.pip("torch==")


@needs_headers
def test_an_environment_of_an_earlier_release_is_brought_up_to_date(clone):
    assert clone.setup().returncode == 0
    (clone.venv / "setup" / "build").unlink()
    clone.done.write_text("of another fingerprint\n")
    run = clone.setup()
    assert run.returncode == 0, run.stderr
    assert clone.pip(f"torch=={TORCH}+cpu") and run.stdout.endswith("/bin/activate\n")


@needs_headers
def test_a_long_step_says_that_it_goes_on(clone):
    script = clone.root / "scripts" / "setup.sh"
    script.write_text(script.read_text().replace("PATIENCE=20", "PATIENCE=1"))
    run = clone.setup(STUB_SLOW="fairseq.txt")
    assert run.returncode == 0, run.stderr
    words = run.stdout.split("[4/5]")[1].split("[5/5]")[0].splitlines()
    assert words[1].split("  ")[2:] == ["1 s", "compiling libbase.cpp"]


@needs_headers
def test_fairseq_is_compiled_by_all_cores(clone):
    assert clone.setup().returncode == 0
    (call,) = clone.pip("fairseq.txt")
    found = configparser.ConfigParser()
    found.read(re.search(r" DIST_EXTRA_CONFIG=(\S+)", call)[1])
    assert found["build_ext"]["parallel"] == str(os.cpu_count())


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the wheel is for x86_64")
@needs_headers
def test_a_python_with_a_ready_made_fairseq_is_named(clone):
    clone.command("python3.12", "#!/bin/sh\n")
    assert (
        "==> note: fairseq is compiled for Python 3.11, and ready-made for 3.12, which is here: "
        "PYTHON=python3.12 bash scripts/setup.sh\n"
    ) in clone.setup().stdout
    assert "ready-made for" not in clone.setup(STUB_VERSION="3.12").stdout


@needs_headers
def test_nothing_else_can_bring_a_second_torch(clone):
    assert clone.setup().returncode == 0
    constraints = clone.venv / "setup" / "constraints.txt"
    assert constraints.read_text() == f"torch=={TORCH}+cpu\n"
    for what in ("packages.txt", "fairseq.txt", f"-e {clone.root}"):
        (call,) = clone.pip(what)
        assert "--no-build-isolation" in call and f"PIP_CONSTRAINT={constraints}" in call
    (fairseq,) = clone.pip("fairseq.txt")
    assert "--no-deps" in fairseq and "CUDA_HOME=unset" in fairseq


@needs_headers
@pytest.mark.parametrize(
    ("part", "number"), [("build.txt", 1), ("packages.txt", 3), ("fairseq.txt", 4), ("-e ", 5)]
)
def test_failed_run_names_its_step_and_is_made_anew(clone, part, number):
    message = clone.refuses(STUB_PIP_FAILS=part)
    assert message.startswith(f"step {number} of 5 failed (No matching distribution found): ")
    assert message.endswith(f"the log is {clone.venv}/setup/log")
    left = clone.venv / "left"
    left.touch()
    assert clone.setup().returncode == 0
    assert clone.done.exists() and not left.exists()


@needs_headers
def test_second_run_installs_nothing(clone):
    assert clone.setup().returncode == 0
    run = clone.setup()
    assert run.stdout == f"==> {clone.venv} is up to date\n"
    assert not clone.pip("")


@needs_headers
def test_changed_requirements_are_installed_into_the_same_environment(clone):
    assert clone.setup().returncode == 0
    kept = clone.venv / "kept"
    kept.touch()
    with open(clone.root / "scripts" / "requirements" / "packages.txt", "a") as file:
        file.write("another==1.0\n")
    assert clone.setup().returncode == 0
    assert clone.pip("packages.txt") and kept.exists()


@needs_headers
def test_choices_of_a_finished_run_are_remembered(clone):
    other = clone.command("other-python", STAND_IN)
    assert clone.setup(PYTHON=str(other), TORCH="2.11.0").returncode == 0
    assert clone.setup().stdout == f"==> {clone.venv} is up to date\n"


@needs_headers
def test_another_python_gets_a_new_environment(clone):
    assert clone.setup().returncode == 0
    (clone.venv / "left").touch()
    assert clone.setup(PYTHON=str(clone.command("other-python", STAND_IN))).returncode == 0
    assert not (clone.venv / "left").exists()


@needs_headers
def test_moved_clone_gets_a_new_environment(clone):
    assert clone.setup().returncode == 0
    (clone.venv / "left").touch()
    moved = clone.root.rename(clone.root.with_name("moved"))
    clone.root, clone.venv = moved, moved / ".venv"
    assert clone.setup().returncode == 0
    assert not (clone.venv / "left").exists()


@needs_headers
def test_cpu_environment_on_a_machine_with_gpu_is_noted(clone):
    assert clone.setup().returncode == 0
    clone.gpu(True)
    assert "note: this machine has a GPU" in clone.setup().stdout


def test_pins_agree_with_the_package():
    pins = (ROOT / "scripts" / "requirements" / "fairseq.txt").read_text()
    (version,) = re.findall(r"^fairseq-fixed==(\S+)", pins, re.MULTILINE)
    assert f'"fairseq-fixed=={version}"' in (ROOT / "setup.py").read_text()
    packages = (ROOT / "scripts" / "requirements" / "packages.txt").read_text()
    assert not re.search(r"^(torch|nvidia|triton|fairseq)", packages, re.MULTILINE)
