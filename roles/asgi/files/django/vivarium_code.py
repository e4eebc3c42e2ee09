"""What the checks of a deployment look for in an application's code, the working directory."""

import os
from pathlib import Path

# A secret is looked for in the code's files up to this size.
READABLE = 1_000_000
# A shorter one may stand there by chance.
SHORTEST = 12


def found_in_code(secrets):
    """The names of secrets that stand in a file of the code, and the file."""
    wanted = {name: str(value).encode() for name, value in secrets.items() if value and len(str(value)) >= SHORTEST}
    for directory, directories, files in os.walk("."):
        directories[:] = [name for name in directories if name not in ("node_modules", ".git")]
        for path in (Path(directory, name) for name in files):
            if not wanted or not path.is_file() or path.is_symlink() or path.stat().st_size > READABLE:
                continue
            content = path.read_bytes()
            for name in [name for name, value in wanted.items() if value in content]:
                del wanted[name]
                yield name, path


def is_inside(path, directory):
    path, directory = Path(os.path.realpath(path)), Path(os.path.realpath(directory))
    return path == directory or directory in path.parents
