"""Whether a proof is valid: the prover's kernel checks it and lists what it assumes.

The theorem is in the item, not in the submission, and the kernel compares it; so a proof of
something else, a theorem that shadows the goal and a changed notation prove nothing. These count as
cheating: `sorry`, `admit`, `Admitted`, axioms (except Lean's `propext`, `Classical.choice` and
`Quot.sound`), and disabled checks.

- smt: `statement` is an SMT-LIB 2 script whose last assertion is the negated goal; `proof` is a
  list of lemmas, one SMT-LIB term each, every one proved from the axioms and the lemmas before it.
  Z3 decides; nothing else can be asserted.
- coq: `prompt` holds definitions, `statement` the goal, `proof` a file that defines `goal`. `coqc`
  checks its type, `Print Assumptions` lists axioms, and `coqchk`, the kernel alone, checks it again
  (imports from Coq itself are taken as checked).
- lean: the same in Lean 4, with `#print axioms`.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil

from upshot.errors import InputError
from upshot.verifiers.items import Item, Part
from upshot.verifiers.quality import at_least, require_modules
from upshot.verifiers.sandbox import Limits, Place, Run, python, run

_COMMENT = {
    "coq": re.compile(r"\(\*.*?\*\)", re.DOTALL),
    "lean": re.compile(r"/-.*?-/|--[^\n]*", re.DOTALL),
}
_CHEATS = {
    "coq": re.compile(
        r"""(?x) \b (?:
            Admitted | admit | give_up
            | Axioms? | Parameters? | Conjecture | Hypothes[ie]s | Variables?
            | Declare \s+ ML \s+ Module | bypass_check
            | Unset \s+ (?: Guard | Positivity | Universe ) \s+ Checking
            | Redirect | Extraction | Load | Cd
        ) \b"""
    ),
    "lean": re.compile(
        r"""(?x) \b (?:
            sorry | admit | axiom | native_decide | implemented_by | extern | unsafe | csimp
            | debug\.skipKernelTC | run_cmd | \#eval | initialize | elab | macro
        ) \b"""
    ),
}
_LEAN_ALLOWED = {"propext", "Classical.choice", "Quot.sound"}
_NO_AXIOMS = "Closed under the global context"
_MIN_LIMITS = Limits(seconds=60.0, memory_mb=4000)
"""Of provers, at least: they reserve more address space than they use."""
_SMT = """
import sys, z3
goal, lemmas = sys.argv[1], sys.argv[2:]
def assertions(text):
    return list(z3.parse_smt2_string(text))
facts = assertions(goal)
if not facts:
    print("nothing is asserted"); sys.exit()
axioms, negated = facts[:-1], facts[-1]
def check(*terms):
    solver = z3.Solver()
    solver.add(*terms)
    return solver.check()
if axioms and check(*axioms) == z3.unsat:
    print("the axioms contradict each other"); sys.exit()
declarations = sys.stdin.read()
for number, lemma in enumerate(lemmas):
    try:
        found = assertions(declarations + "(assert " + lemma + ")")
    except z3.Z3Exception as error:
        print("lemma", number, "cannot be read:", str(error)[:200]); sys.exit()
    if len(found) != 1:
        print("lemma", number, "is no single term"); sys.exit()
    answer = check(*axioms, z3.Not(found[0]))
    if answer != z3.unsat:
        print("lemma", number, "does not follow:", answer); sys.exit()
    axioms.append(found[0])
print("answer", check(*axioms, negated))
"""


def check_proof(item: Item, limits: Limits) -> tuple[dict[str, bool], Part]:
    """Check a proof; the part is 1 if it proves the goal, 0 if not, None if the prover cannot tell.

    Raises:
        InputError: the item is not a proof, or its prover is not installed.
        SandboxError: untrusted code cannot be run safely on this machine.
    """
    checks = {"smt": _check_smt, "coq": _check_coq, "lean": _check_lean}
    if item.language not in checks:
        raise InputError(
            f"could not check the proof of {item.id}: language {item.language!r}; there are smt,"
            " coq and lean"
        )
    if not item.statement.strip():
        raise InputError(f"could not check the proof of {item.id}: it has no statement to prove")
    return checks[item.language](item, limits)


def _check_smt(item: Item, limits: Limits) -> tuple[dict[str, bool], Part]:
    require_modules("z3")
    lemmas = _split_terms(item.proof)
    if lemmas is None:
        return {"only_lemmas": False}, Part(0.0, why="the proof is not a list of terms")
    declarations = "".join(
        term
        for term in _split_terms(item.statement) or []
        if not re.match(r"\(\s*(?:assert|check-sat|get-|exit|push|pop)", term)
    )
    result = run(
        python("-c", _SMT, item.statement, *lemmas), Place(), limits, declarations.encode()
    )
    output = result.stdout.decode(errors="replace").strip().splitlines()
    last = output[-1] if output else ""
    if last == "answer unsat":
        return {"only_lemmas": True}, Part(1.0, {"lemmas": len(lemmas)})
    if result.killed or last == "answer unknown":
        return {"only_lemmas": True}, Part(
            None, why=f"z3 cannot tell: {result.killed or 'unknown'}"
        )
    return {"only_lemmas": True}, Part(
        0.0,
        why=(
            "there is a counterexample"
            if last == "answer sat"
            else last or result.stderr.decode(errors="replace")[-300:]
        ),
    )


def _split_terms(text: str) -> list[str] | None:
    """The s-expressions of a text; None if brackets do not match or words are outside them.

    >>> _split_terms("(> x 0) ; why\\n(= y 1)")
    ['(> x 0)', '(= y 1)']
    """
    terms, depth, start, position = list[str](), 0, 0, 0
    while position < len(text):
        sign = text[position]
        if sign == ";":
            position = text.find("\n", position) if "\n" in text[position:] else len(text)
            continue
        if sign in '"|':
            position = text.find(sign, position + 1)
            if position < 0:
                return None
        elif sign == "(":
            start = position if depth == 0 else start
            depth += 1
        elif sign == ")":
            depth -= 1
            if depth < 0:
                return None
            if depth == 0:
                terms.append(re.sub(r";[^\n]*", "", text[start : position + 1]))
        elif depth == 0 and not sign.isspace():
            return None
        position += 1
    return terms if depth == 0 else None


def _find_cheats(item: Item) -> list[str]:
    text = _COMMENT[item.language].sub(" ", item.proof)
    return sorted({match.group(0) for match in _CHEATS[item.language].finditer(text)})


def _check_coq(item: Item, limits: Limits) -> tuple[dict[str, bool], Part]:
    if shutil.which("coqc") is None or shutil.which("coqchk") is None:
        raise InputError(
            "could not check a proof in Coq: coqc is not installed; install it, for example with:"
            " apt-get install coq"
        )
    cheats = _find_cheats(item)
    if cheats:
        return {"nothing_assumed": False}, Part(0.0, why=f"the proof uses {', '.join(cheats)}")
    name = f"Check_{secrets.token_hex(8)}"
    check = (
        f"Require Import Given.\nRequire Submission.\nDefinition checked : ({item.statement}) :="
        " Submission.goal.\nPrint Assumptions checked.\n"
    )
    script = (
        f'coqc -q Given.v && coqc -q Submission.v && printf %s "$1" > {name}.v && coqc -q {name}.v'
        f" && coqchk -silent -o -norec Given -norec Submission -norec {name} 2>&1"
    )
    place = Place(
        {
            "Given.v": item.prompt.encode(),
            "Submission.v": f"Require Import Given.\n{item.proof}".encode(),
        }
    )
    result = run(["/bin/sh", "-c", script, "sh", check], place, at_least(limits, _MIN_LIMITS))
    text = result.stdout.decode(errors="replace")
    if result.killed:
        return {"nothing_assumed": True}, Part(
            None, why=f"coq did not finish: too much {result.killed}"
        )
    if result.code:
        return {"nothing_assumed": True}, Part(0.0, why=_last_output(result))
    unsafe = [
        row
        for row in text.splitlines()
        if row.startswith("* ") and "relying on" in row and not row.endswith("<none>")
    ]
    closed = (
        _NO_AXIOMS in text
        and not unsafe
        and not re.search(r"^\s+(?:Submission|Check_\w+)\.", text, re.MULTILINE)
    )
    return {"nothing_assumed": closed}, Part(
        float(closed), why="" if closed else "it assumes: " + " ".join(text.split())[:300]
    )


def _check_lean(item: Item, limits: Limits) -> tuple[dict[str, bool], Part]:
    lean = shutil.which("lean")
    if lean is None:
        raise InputError(
            "could not check a proof in Lean: lean is not installed; see"
            " https://lean-lang.org/install"
        )
    cheats = _find_cheats(item)
    if cheats:
        return {"nothing_assumed": False}, Part(0.0, why=f"the proof uses {', '.join(cheats)}")
    name = f"checked_{secrets.token_hex(8)}"
    text = (
        f"{item.prompt}\nnamespace Submission\n{item.proof}\nend Submission\ntheorem {name} :"
        f" ({item.statement}) := Submission.goal\n#print axioms {name}\n"
    )
    result = run(
        [lean, "Proof.lean"],
        Place(
            {"Proof.lean": text.encode()},
            [os.path.dirname(os.path.dirname(os.path.realpath(lean)))],
        ),
        at_least(limits, _MIN_LIMITS),
    )
    output = result.stdout.decode(errors="replace")
    if result.killed:
        return {"nothing_assumed": True}, Part(
            None, why=f"lean did not finish: too much {result.killed}"
        )
    if result.code:
        return {"nothing_assumed": True}, Part(0.0, why=_last_output(result))
    axioms = re.search(rf"'{name}' depends on axioms: \[(.*?)\]", output, re.DOTALL)
    used: set[str] = set()
    if axioms is not None:
        used = {part.strip() for part in axioms.group(1).split(",")}
    closed = (
        axioms is not None or f"'{name}' does not depend on any axioms" in output
    ) and used <= _LEAN_ALLOWED
    return {"nothing_assumed": closed}, Part(
        float(closed),
        {"axioms": sorted(used)},
        "" if closed else f"it assumes: {', '.join(sorted(used - _LEAN_ALLOWED)) or output[:200]}",
    )


def _last_output(result: Run) -> str:
    text = (result.stderr or result.stdout).decode(errors="replace")
    return re.sub(r"Check_[0-9a-f]{16}", "Check", text).strip()[-300:]
