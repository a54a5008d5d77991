"""The list of verifier parts that are measured on request.

A new part is one new file with a function from an item and its limits to a `Part`, and one line
here; other packages add theirs through the entry-point group `upshot.verifiers`
(docs/extending.md).
"""

from __future__ import annotations

from upshot.registry import Registry

PARTS = Registry(
    "upshot.verifiers",
    "verifier part",
    {
        "lint": "upshot.verifiers.quality:check_lint",
        "types": "upshot.verifiers.quality:check_types",
        "complexity": "upshot.verifiers.quality:measure_complexity",
        "coverage": "upshot.verifiers.mutation:measure_coverage",
        "speed": "upshot.verifiers.speed:measure_speed",
    },
)
NAMES = ("tests", "mutation", "proof", *PARTS.names)
"""What `upshot verify --with` takes: the parts that the gates depend on, then the others."""
