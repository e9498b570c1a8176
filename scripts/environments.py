"""The virtual environments of the scripts, each made once for its requirements."""
import pathlib
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent


def python_of(name, wanted, note):
    """The Python of .deps/NAME, which is made, with a `note`, where it is not that of the requirements file `wanted`."""
    venv = ROOT / ".deps" / name
    stamp = venv / "requirements.txt"
    if not stamp.is_file() or stamp.read_bytes() != wanted.read_bytes():
        print(f"{note} into {venv.relative_to(ROOT)}", file=sys.stderr, flush=True)
        shutil.rmtree(venv, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", venv], check=True)
        subprocess.run([venv / "bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-cache-dir",
                        "--only-binary=:all:", "--requirement", wanted], check=True)
        shutil.copy(wanted, stamp)
    return venv / "bin/python"
