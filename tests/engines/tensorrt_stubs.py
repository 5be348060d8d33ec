"""Write type stubs of several versions of TensorRT, from their real bindings, without a GPU.

    python tests/engines/tensorrt_stubs.py FOLDER

The bindings are small and on the package index; the libraries under them are not needed to look at
what the bindings offer, so empty ones stand in. Needs pybind11-stubgen and a C compiler.
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

VERSIONS = {  # what is supported, from the oldest to the newest: JetPack 6, JetPack 7, and RTX
    "10.3": ("tensorrt-cu12-bindings==10.3.0", "tensorrt_bindings"),
    "10.16": ("tensorrt-cu12-bindings==10.16.1.11", "tensorrt_bindings"),
    "11.4": ("tensorrt-cu12-bindings==11.4.0.106", "tensorrt_bindings"),
    "rtx-1.7": ("tensorrt-rtx-cu13-bindings==1.7.1.116", "tensorrt_rtx_bindings"),
}
_LIBRARY = re.compile(rb"lib(?:nvinfer|nvonnxparser|tensorrt)\w*\.so\.[\d.]+")
_FUNCTIONS = (  # what the bindings call in them by name
    "createInferBuilder_INTERNAL",
    "createInferRefitter_INTERNAL",
    "createInferRuntime_INTERNAL",
    "createNvOnnxParserRefitter_INTERNAL",
    "createNvOnnxParser_INTERNAL",
    "getBuilderPluginRegistry",
    "getNvOnnxParserVersion",
    "getPluginRegistry",
    "initLibNvInferPlugins",
)


def write_stubs(folder: Path, requirement: str, package: str) -> None:
    """Write the stubs of one version into `folder`, where they are found as ``tensorrt``."""
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", name]
        subprocess.run([*pip, requirement], check=True)
        _stand_ins(work, package)
        paths = {"LD_LIBRARY_PATH": name, "PYTHONPATH": name}
        stubgen = [sys.executable, "-m", "pybind11_stubgen", package, "--ignore-all-errors"]
        subprocess.run(
            [*stubgen, "-o", folder],
            cwd=work,
            env=os.environ | paths,
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    (folder / "tensorrt").mkdir(exist_ok=True)
    (folder / "tensorrt" / "__init__.pyi").write_text(f"from {package} import *\n")


def _stand_ins(folder: Path, package: str) -> None:
    """Make empty libraries of the names that the bindings ask for."""
    source = folder / "empty.c"
    source.write_text("".join(f"void *{name}(void) {{ return 0; }}\n" for name in _FUNCTIONS))
    bindings = b"".join(path.read_bytes() for path in (folder / package).glob("*.so"))
    for library in {match.decode() for match in _LIBRARY.findall(bindings)}:
        options = ["-shared", "-fPIC", f"-Wl,-soname,{library}"]
        subprocess.run(["cc", *options, "-o", folder / library, source], check=True)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    for version, (requirement, package) in VERSIONS.items():
        write_stubs(Path(sys.argv[1]).resolve() / version, requirement, package)
