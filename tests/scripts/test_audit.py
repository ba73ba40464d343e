import importlib.machinery
import importlib.util
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "audit"


@pytest.fixture(scope="module")
def audit() -> Any:
    loader = importlib.machinery.SourceFileLoader("audit", str(SCRIPT))
    spec = importlib.util.spec_from_loader("audit", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def vulnerable(*, aliases: list[str] | None = None, fix: list[str] | None = None) -> dict[str, Any]:
    found = {"id": "PYSEC-1", "fix_versions": fix or [], "aliases": aliases or [], "description": "bad"}
    return {
        "dependencies": [
            {"name": "one", "version": "1.0", "vulns": []},
            {"name": "two", "version": "2.0", "vulns": [found]},
        ]
    }


def test_a_known_vulnerability_fails(audit: Any) -> None:
    assert audit.verdict(vulnerable(fix=["2.1"]), set()) == (
        1,
        "known vulnerabilities:\n  two 2.0: PYSEC-1 (mended in 2.1)",
    )
    assert "no version yet" in audit.verdict(vulnerable(), set())[1]


def test_an_accepted_one_does_not(audit: Any) -> None:
    known = audit.accepted("# why\n\nPYSEC-1 the parser in question is never used\n")
    assert known == {"PYSEC-1"}
    assert audit.verdict(vulnerable(), known) == (0, "audited 2 versions, no known vulnerability")
    assert audit.verdict(vulnerable(aliases=["CVE-9"]), {"CVE-9"})[0] == 0
    assert audit.verdict(vulnerable(), {"CVE-9"})[0] == 1


def test_what_could_not_be_asked_is_said(audit: Any) -> None:
    skipped = {"name": "two", "skip_reason": "Dependency not found on PyPI and could not be audited: two (2.0)"}
    for report in (None, {"dependencies": []}, {"dependencies": [skipped]}):
        assert audit.verdict(report, set()) == (
            0,
            "the list of vulnerabilities cannot be asked from here: NOTHING WAS AUDITED",
        )
    report = {"dependencies": [{"name": "one", "version": "1.0", "vulns": []}, skipped]}
    assert audit.verdict(report, set()) == (0, "audited 1 versions, no known vulnerability; not on the list: two")
