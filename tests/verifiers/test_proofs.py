"""A proof counts if the prover's kernel accepts it and nothing was assumed."""

from __future__ import annotations

import shutil

import pytest

from upshot.errors import InputError
from upshot.verifiers.items import Item
from upshot.verifiers.sandbox import Limits
from upshot.verifiers.verify import verify

SQUARE = (
    "(declare-const x Int)(declare-const y Int)(assert (> x 0))(assert (> y x))(assert (not (> (* x"
    " y) 0)))"
)
NEED_COQ = pytest.mark.skipif(
    shutil.which("coqc") is None, reason="Coq is not installed (apt-get install coq)"
)
NEED_LEAN = pytest.mark.skipif(shutil.which("lean") is None, reason="Lean 4 is not installed")


def outcome(language: str, statement: str, proof: str, prompt: str = ""):
    return next(
        verify(
            [
                Item(
                    "p",
                    submitted="proof",
                    language=language,
                    statement=statement,
                    proof=proof,
                    prompt=prompt,
                )
            ],
            ["proof"],
            limits=Limits(seconds=20.0),
        )
    )


@pytest.mark.parametrize(
    ("statement", "proof", "value"),
    [
        (SQUARE, "", 1.0),
        (SQUARE, "(> y 0) ; by transitivity\n(> (* x y) 0)", 1.0),
        (SQUARE, "(> y 5)", 0.0),
        (SQUARE, "(= 1 2)", 0.0),
        (SQUARE, "true) (assert false", 0.0),
        (SQUARE, "false", 0.0),
        ("(declare-const x Int)(assert (not (> x 0)))", "", 0.0),
        ("(declare-const x Int)(assert (> x 0))(assert (< x 0))(assert (not (= x 7)))", "", 0.0),
        (SQUARE, "(let ((z 1)) (> z 0))", 1.0),
        (SQUARE, "(exit)", 0.0),
        (SQUARE, "(> unknown 0)", 0.0),
    ],
)
def test_smt(statement: str, proof: str, value: float) -> None:
    assert outcome("smt", statement, proof).outcome == value


GOAL = "forall n : nat, n + 0 = n"
RIGHT = "Theorem goal : forall n : nat, n + 0 = n. Proof. induction n; simpl; auto. Qed."


@NEED_COQ
@pytest.mark.parametrize(
    ("proof", "value"),
    [
        (RIGHT, 1.0),
        (f"(* no Admitted here *) {RIGHT}", 1.0),
        ("Theorem goal : forall n : nat, n + 0 = n. Proof. reflexivity. Qed.", 0.0),
        ("Theorem goal : forall n : nat, n + 0 = n. Proof. Admitted.", 0.0),
        (
            (
                "Theorem goal : forall n : nat, n + 0 = n. Proof. intro; admit. Abort. Definition"
                " goal := 1."
            ),
            0.0,
        ),
        ("Axiom goal : forall n : nat, n + 0 = n.", 0.0),
        ("Theorem goal : True. Proof. exact I. Qed.", 0.0),
        ("Definition nat := True. Theorem goal : nat. Proof. exact I. Qed.", 0.0),
        (
            (
                "Unset Guard Checking. Fixpoint loop (n : nat) : forall m : nat, m + 0 = m := loop"
                " n. Definition goal := loop 0."
            ),
            0.0,
        ),
        (
            (
                "Require Import Classical. Theorem goal : forall n : nat, n + 0 = n. Proof. intro"
                " n. apply NNPP. intro H. apply H. induction n; simpl; auto. Qed."
            ),
            0.0,
        ),
        ("", 0.0),
    ],
)
def test_coq(proof: str, value: float) -> None:
    gates = outcome("coq", GOAL, proof, "Require Import Arith.\n")
    assert gates.outcome == value, gates.reasons


@NEED_LEAN
@pytest.mark.parametrize(
    ("proof", "value"),
    [
        ("theorem goal : ∀ n : Nat, n + 0 = n := fun _ => rfl", 1.0),
        ("theorem goal : ∀ n : Nat, n + 0 = n := sorry", 0.0),
        ("axiom goal : ∀ n : Nat, n + 0 = n", 0.0),
    ],
)
def test_lean(proof: str, value: float) -> None:
    assert outcome("lean", "∀ n : Nat, n + 0 = n", proof).outcome == value


def test_an_unknown_language_or_no_statement_is_refused() -> None:
    with pytest.raises(InputError, match="there are smt, coq and lean"):
        outcome("prolog", "x", "y")
    with pytest.raises(InputError, match="no statement"):
        outcome("smt", " ", "")
