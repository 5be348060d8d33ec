"""The package as others see it: its names, its parts, what importing it costs."""

import subprocess
import sys
from pathlib import Path

import veintrack

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
HEAVY = {
    "cuda",
    "pycuda",
    "tensorrt",
    "tensorrt_rtx",
    "torch",
    "lightning",
    "openvino",
    "onnxruntime",
    "onnx",
    "cv2",
    "av",
    "scipy",
    "matplotlib",
}


def run_python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT
    )
    return done.stdout


def test_importing_the_package_loads_no_engine_and_no_codec() -> None:
    loaded = run_python("import sys, veintrack; print(*sys.modules)").split()
    assert not HEAVY & set(loaded)


def test_looking_for_sources_and_engines_loads_none_of_their_libraries() -> None:
    code = "import sys, veintrack.engines.base, veintrack.tracker.sources; print(*sys.modules)"
    assert not HEAVY & set(run_python(code).split())


def test_the_command_line_starts_without_torch() -> None:
    loaded = run_python("import sys, veintrack.tracker.cli.app; print(*sys.modules)").split()
    assert not {"torch", "lightning", "openvino", "onnxruntime"} & set(loaded)


def test_every_public_name_is_there_and_documented() -> None:
    for name in veintrack.__all__:
        value = getattr(veintrack, name)
        assert name == "__version__" or (value.__doc__ or "").strip(), name
    assert set(veintrack.__all__) <= set(dir(veintrack))


def test_an_unknown_name_is_an_attribute_error() -> None:
    assert not hasattr(veintrack, "no_such_name")


def test_every_package_in_the_folders_is_in_the_wheel() -> None:
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())
    found = {
        ".".join(["veintrack", *init.parent.relative_to(ROOT).parts])
        for top in ("tracker", "engines", "train")
        for init in (ROOT / top).rglob("__init__.py")
    }
    assert set(config["tool"]["setuptools"]["packages"]) == {"veintrack", *found}


def test_the_links_lead_to_the_rooms() -> None:
    for room in ("tracker", "engines", "train"):
        assert (ROOT / "veintrack" / room).resolve() == ROOT / room


def test_engines_and_tracker_do_not_reach_into_rooms_they_must_not_know() -> None:
    def imports(folder: str) -> str:
        return "\n".join(p.read_text() for p in (ROOT / folder).rglob("*.py"))

    assert "veintrack.tracker" not in imports("engines")
    assert "veintrack.train" not in imports("engines")
    outside_cli = [p for p in (ROOT / "tracker").rglob("*.py") if p.parent.name != "cli"]
    assert not [p for p in outside_cli if "veintrack.train" in p.read_text()]
    opening = [p.name for p in outside_cli if "engines.proven" in p.read_text()]
    assert opening == ["segment.py"]
    assert not [p for p in outside_cli if "open_engine" in p.read_text()]
