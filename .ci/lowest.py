"""Print the lowest versions that pyproject.toml allows, as constraints for pip: NAME==VERSION.*, one a line.

Of what users install, not of the tools that check the project.
"""

import re
import tomllib
from pathlib import Path

project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text("utf-8"))["project"]
extras = project["optional-dependencies"]
lists = [project["dependencies"], *(extras[name] for name in sorted(extras) if name not in ("docs", "test"))]
wanted = " ".join(requirement for requirements in lists for requirement in requirements)
pins = {f"{name}=={version}.*" for name, version in re.findall(r"([\w-]+)>=([\d.]+)", wanted)}
print("\n".join(sorted(pins)))
