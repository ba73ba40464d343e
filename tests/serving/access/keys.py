"""Keys for tests, and the file that knows them."""

from pathlib import Path

from serving.access.access_file import hash_key

FRONTEND = "roomrec_web-" + "a" * 40
OPERATOR = "roomrec_ops-" + "b" * 40
AUDITOR = "roomrec_law-" + "c" * 40


def key_lines(name: str, role: str, key: str, more: str = "") -> str:
    return f'[[keys]]\nname = "{name}"\nrole = "{role}"\nsha256 = "{hash_key(key)}"\n{more}\n'


def write_access_file(path: Path, *, head: str = "", frontend: str = "") -> Path:
    """Write a file with a key of each role."""
    path.write_text(
        head
        + "\n"
        + key_lines("web", "frontend", FRONTEND, frontend)
        + key_lines("ops", "operator", OPERATOR)
        + key_lines("law", "auditor", AUDITOR)
    )
    return path
