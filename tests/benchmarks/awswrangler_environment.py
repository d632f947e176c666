"""A separate environment for awswrangler, whose pins differ from this program's."""

import subprocess
import sys
import tempfile
import venv
from pathlib import Path

REQUIREMENT = "awswrangler==3.17.1"


def awswrangler_python() -> tuple[str | None, str]:
    """Return the Python with awswrangler, or None and the reason why it is missing.

    It is installed once, under the system's temporary folder, from the package index
    that pip is configured for.
    """
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    name = f"enterprises-bench-{REQUIREMENT.replace('==', '-')}-python{version}"
    folder = Path(tempfile.gettempdir()) / name
    python = folder / "bin" / "python"
    try:
        if not (folder / "complete").exists():
            venv.create(folder, with_pip=True, clear=True)
            install = [str(python), "-m", "pip", "install", "--quiet", REQUIREMENT]
            subprocess.run(install, check=True, capture_output=True, text=True)
            (folder / "complete").touch()
    except subprocess.CalledProcessError as error:
        return None, f"{REQUIREMENT} could not be installed: {error.stderr[-500:]}"
    except OSError as error:
        return None, f"{folder} could not be made: {error}"
    return str(python), ""
