"""What `credits doctor` looks at, and the one thing that it repairs. All of it but `repair` only reads."""

from sparked_workers.doctor.examination import examine
from sparked_workers.doctor.findings import Finding, Verdict
from sparked_workers.doctor.jams import repair

__all__ = ["Finding", "Verdict", "examine", "repair"]
