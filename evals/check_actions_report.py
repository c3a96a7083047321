"""What `wfm-sim check-actions` says: single checks, findings with their evidence, and the line of code that mends."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, Literal

from wfm_sim.action_contract import CANONICAL, CONTRACTS, ActionContract

Verdict = Literal["ok", "mismatch", "cannot tell"]
Strength = Literal["strong", "moderate", "weak"]

# Every mismatch that can be named, and what it means for whoever meets it.
CODES = {
    "near-zero-motion": "the arm hardly moves",
    "dimension": "another number of values per action than the contract has",
    "absolute-poses": "poses where displacements are expected",
    "x20-missing": "numbers 20 times too small",
    "x20-twice": "numbers 20 times too large",
    "millimetres": "translation in millimetres",
    "centimetres": "translation in centimetres",
    "degrees": "rotation in degrees",
    "millimetres-degrees": "translation in millimetres and rotation in degrees",
    "normalised": "numbers in -1..1, or of mean 0 and deviation 1",
    "unknown-scale": "numbers of another size, by no factor that is known",
    "rate": "actions for another rate",
    "base-frame": "displacements seen from the base",
    "gripper-frame": "displacements seen from the gripper where the base is declared",
    "rotation-sign": "angles that count the other way round",
    "rotation-order": "angles in the order yaw, pitch, roll",
    "rotation-order-and-sign": "both",
    "gripper-inverted": "open and closed exchanged",
    "gripper-range": "another range of gripper numbers",
    "shifted": "actions that belong to the step before or after",
}


@dataclass(frozen=True)
class Check:
    """One question and its answer."""

    name: str
    verdict: Verdict
    says: str


@dataclass(frozen=True)
class Finding:
    """One mismatch.

    Attributes:
        code: One of CODES.
        says: What it looks like, in plain words.
        strength: Of the evidence.
        evidence: What was measured.
        source: The contract that the actions seem to be written in, as far as found up to here; the declared one where
            no contract can describe it.
        mends: Whether converting from `source` mends it.
    """

    code: str
    says: str
    strength: Strength
    evidence: tuple[str, ...]
    source: ActionContract
    mends: bool = True


@dataclass
class Report:
    """All that was seen of one policy or data set.

    Attributes:
        subject: Its name.
        kind: Decides the line of code that mends.
        target: What the world model takes.
        declared: What the actions are said to be written in.
        examined: What the answer rests on, in words.
        checks: In the order in which they were made, of the actions as finally understood.
        findings: In the order in which they were found.
        model_checks: Whether the world model itself obeys its contract.
    """

    subject: str
    kind: Literal["policy", "data set"]
    target: ActionContract
    declared: ActionContract
    examined: str = ""
    checks: list[Check] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    model_checks: list[Check] = field(default_factory=list)

    @property
    def source(self) -> ActionContract:
        """What the actions seem to be written in, all findings together."""
        return self.findings[-1].source if self.findings else self.declared

    @property
    def codes(self) -> list[str]:
        """Of the findings, in order."""
        return [finding.code for finding in self.findings]

    @property
    def clean(self) -> bool:
        """Whether nothing was found, neither of the actions nor of the model."""
        return not self.findings and all(check.verdict != "mismatch" for check in self.model_checks)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "subject": self.subject,
            "kind": self.kind,
            "target": self.target.to_json(),
            "declared": self.declared.to_json(),
            "source": self.source.to_json(),
            "clean": self.clean,
            "examined": self.examined,
            "checks": [vars(check) for check in self.checks],
            "model_checks": [vars(check) for check in self.model_checks],
            "findings": [{**vars(f), "source": f.source.to_json()} for f in self.findings],
            "fix": fix_line(self),
        }

    def lines(self) -> list[str]:
        """For the terminal."""
        text = [
            f"{self.subject}: written as {self.declared.name!r} ({self.declared.summary()})",
            f"checked against {self.target.name!r} ({self.target.summary()})",
            self.examined,
            "",
        ]
        for finding in self.findings:
            text.append(f"MISMATCH  {finding.says}  [{finding.code}, {finding.strength} evidence]")
            text += [f"          {line}" for line in finding.evidence]
        if self.findings and self.checks:
            text.append("As mended:")
        text += [_line(check) for check in self.checks]
        if self.model_checks:
            text += ["The world model itself:", *(_line(check) for check in self.model_checks)]
        mending = fix_line(self)
        if mending:
            text += ["", f"To mend: {mending}"]
        elif self.findings:
            text += ["", "No wrapper mends this: see the evidence above."]
        elif self.clean:
            text += ["", "No mismatch found."]
        return text


def _line(check: Check) -> str:
    label = {"ok": "ok", "mismatch": "MISMATCH", "cannot tell": "?"}[check.verdict]
    return f"{label:8}  {check.name}: {check.says}"


def contract_code(contract: ActionContract) -> str:
    """Python that makes a contract: CANONICAL, named_contract(...) or replace(CANONICAL, ...)."""
    if contract == CANONICAL:
        return "CANONICAL"
    if CONTRACTS.get(contract.name) == contract:
        return f"named_contract({contract.name!r})"
    base = CONTRACTS.get(contract.name.split(",")[0], CANONICAL)
    start = "CANONICAL" if base is CANONICAL else f"named_contract({base.name!r})"
    changed = [
        f"{item.name}={getattr(contract, item.name)!r}"
        for item in fields(contract)
        if item.name not in ("note",) and getattr(contract, item.name) != getattr(base, item.name)
    ]
    return f"replace({start}, {', '.join(changed)})"


def fix_line(report: Report) -> str:
    """The line of code that mends all findings, '' where none does."""
    if not report.findings or not all(finding.mends for finding in report.findings):
        return ""
    source, target = contract_code(report.source), contract_code(report.target)
    if report.kind == "policy":
        return f"policy = Converted(policy, {source}" + (")" if target == "CANONICAL" else f", {target})")
    poses = "" if _without_poses(report) else ", poses=states[:-1]"
    return f"actions = convert(actions, {source}, {target}{poses})"


def fix_code(report: Report) -> str:
    """`fix_line` with its imports, '' where none does."""
    line = fix_line(report)
    if not line:
        return ""
    names = [name for name in ("CANONICAL", "Normalisation", "named_contract") if name in line]
    imports = [f"from wfm_sim.action_contract import {', '.join(names)}"] if names else []
    if report.kind == "policy":
        imports.append("from wfm_sim.policies.wrappers import Converted")
    else:
        imports.append("from wfm_sim.action_conversion import convert")
    if "replace(" in line:
        imports.insert(0, "from dataclasses import replace")
    return "\n".join([*imports, line])


def _without_poses(report: Report) -> bool:
    return all(c.kind == "delta" and c.frame == "gripper" for c in (report.source, report.target))
