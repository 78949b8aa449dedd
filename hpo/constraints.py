"""Rules between hyperparameters: `per_device_train_batch_size * max_length <= 8192`.

Owns their language, a few comparisons in Python's spelling: names, numbers, texts, true and false; + - * / // % **;
< <= > >= == != in; and, or, not. Nothing is executed: the expression is read by `ast` and walked here, all arithmetic
is that of real numbers. Must not know what a name means.
"""

import ast
import difflib
import itertools
import math
import operator
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

Value: TypeAlias = bool | int | float | str
Kind: TypeAlias = Literal["number", "text", "truth"]

MAX_TEXT = 300
MAX_PARTS = 60
MAX_EXPONENT = 8

_HAS_NO_VALUE = 2.0
"""Violation where an expression has no value (a division by zero): more than any that has one."""

_ARITHMETIC: Mapping[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}
_ORDER: Mapping[type[ast.cmpop], Callable[[float, float], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_TRUTH = {"true": True, "false": False}


@dataclass(frozen=True, slots=True)
class Constraint:
    """One rule. names: the hyperparameters that it reads. numbers: what the other names in it stand for.

    It binds an assignment only if all of its names are in it: where a hyperparameter is inactive, so is the rule.
    """

    text: str
    names: frozenset[str]
    numbers: tuple[tuple[str, float], ...]
    tree: ast.expr = field(repr=False, compare=False)

    def holds(self, params: Mapping[str, Value]) -> bool:
        return self.violation(params) <= 0.0

    def violation(self, params: Mapping[str, Value]) -> float:
        """How far `params` is from keeping the rule, without a unit; 0 or below where it is kept or does not bind."""
        if not self.names <= params.keys():
            return 0.0
        try:
            return _violation(self.tree, {**dict(self.numbers), **params})
        except (ArithmeticError, TypeError):  # a division by zero, an overflow, the root of a negative number
            return _HAS_NO_VALUE


def parse(text: str, kinds: Mapping[str, Kind], numbers: Mapping[str, float]) -> Constraint:
    """The rule that `text` writes down. kinds: of the hyperparameters that it may name. ValueError with the remedy."""
    tree = syntax(text)
    kind = _kind(tree, {**dict.fromkeys(numbers, "number"), **kinds})
    if kind != "truth":
        raise ValueError(f"{text} is a {kind}, neither true nor false; compare it, such as {text} <= 8192")
    named = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} - _TRUTH.keys()
    known = tuple((name, float(numbers[name])) for name in sorted(named - kinds.keys()))
    return Constraint(text, frozenset(named & kinds.keys()), known, tree)


def syntax(text: str) -> ast.expr:
    """The expression, read and not yet understood. ValueError."""
    if len(text) > MAX_TEXT:
        raise ValueError(f"a rule of {len(text)} characters; write {MAX_TEXT} at most, or several rules")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            tree = ast.parse(" ".join(text.split()), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise ValueError(
            f"{text!r} is no comparison; write one such as per_device_train_batch_size * max_length <= 8192"
        ) from None
    if sum(isinstance(node, ast.expr) for node in ast.walk(tree)) > MAX_PARTS:
        raise ValueError(f"a rule of more than {MAX_PARTS} names, numbers and operations; write several rules")
    return tree


def _kind(node: ast.expr, kinds: Mapping[str, Kind]) -> Kind:
    """What an expression is. ValueError where it is not in the language."""
    match node:
        case ast.Constant(bool()):
            return "truth"
        case ast.Constant(int() | float() as value):
            if not math.isfinite(_real(value)):
                raise ValueError("a number that is too large; write a smaller one")
            return "number"
        case ast.Constant(str()):
            return "text"
        case ast.Name(name):
            if name in _TRUTH:
                return "truth"
            if name not in kinds:
                close = difflib.get_close_matches(name, kinds, n=1, cutoff=0.5)
                remedy = f"did you mean {close[0]}?" if close else f"known: {', '.join(sorted(kinds))}"
                raise ValueError(f"{name} is no hyperparameter of this space and no number of the task; {remedy}")
            return kinds[name]
        case ast.UnaryOp(ast.Not(), operand):
            return _all_are("truth", "not", kinds, operand)
        case ast.UnaryOp(ast.USub() | ast.UAdd(), operand):
            return _all_are("number", "a sign", kinds, operand)
        case ast.BoolOp(op, values):
            return _all_are("truth", "and" if isinstance(op, ast.And) else "or", kinds, *values)
        case ast.BinOp(left, op, right) if type(op) in _ARITHMETIC:
            if isinstance(op, ast.Pow):
                _check_exponent(right)
            return _all_are("number", "arithmetic", kinds, left, right)
        case ast.Compare(left, ops, comparators):
            for one, sign, other in zip([left, *comparators], ops, comparators, strict=False):
                _check_comparison(one, sign, other, kinds)
            return "truth"
    raise ValueError(f"{ast.unparse(node)[:60]} is not allowed here; compare names and numbers by arithmetic alone")


def _all_are(wanted: Kind, what: str, kinds: Mapping[str, Kind], *nodes: ast.expr) -> Kind:
    for node in nodes:
        if (found := _kind(node, kinds)) != wanted:
            raise ValueError(f"{ast.unparse(node)[:60]} is a {found}, but {what} needs a {wanted}; change one of them")
    return wanted


def _check_exponent(node: ast.expr) -> None:
    try:
        exponent = _number(node, {})
    except (KeyError, ArithmeticError, TypeError):
        exponent = math.inf
    if abs(exponent) > MAX_EXPONENT:
        raise ValueError(f"a power of {ast.unparse(node)[:60]}; write a number up to {MAX_EXPONENT}")


def _check_comparison(one: ast.expr, op: ast.cmpop, other: ast.expr, kinds: Mapping[str, Kind]) -> None:
    if isinstance(op, ast.In | ast.NotIn):
        if not isinstance(other, ast.Tuple | ast.List) or not other.elts:
            raise ValueError(f"{ast.unparse(other)[:60]} is no list of values; write in [16, 32]")
        others: list[ast.expr] = other.elts
    elif isinstance(op, ast.Is | ast.IsNot):
        raise ValueError("`is` is not allowed here; write ==")
    else:
        others = [other]
    own = _kind(one, kinds)
    for value in others:
        if (found := _kind(value, kinds)) != own:
            raise ValueError(
                f"{ast.unparse(one)[:60]} is a {own}, but {ast.unparse(value)[:60]} is a {found}; compare equal kinds"
            )
    if type(op) in _ORDER and own != "number":
        raise ValueError(f"{ast.unparse(one)[:60]} is a {own}, which has no order; write ==, != or in")


def _violation(node: ast.expr, values: Mapping[str, Value]) -> float:
    """Above zero where the expression is false, below where it is true, and never zero."""
    match node:
        case ast.BoolOp(op, parts):
            return _joined(op, parts, values)
        case ast.UnaryOp(ast.Not(), operand):
            return -_violation(operand, values)
        case ast.Compare(left, ops, comparators):
            sides = itertools.pairwise([left, *comparators])
            return max(_missed(one, op, other, values) for (one, other), op in zip(sides, ops, strict=True))
        case _:
            return -1.0 if _value(node, values) else 1.0


def _joined(op: ast.boolop, parts: Sequence[ast.expr], values: Mapping[str, Value]) -> float:
    """The least violation of `or`, the greatest of `and`. A part without a value breaks the whole only where the others
    leave it open: `x == 0 or 1 / x < 2` is kept at 0, as in Python, whatever the order."""
    sign = 1.0 if isinstance(op, ast.And) else -1.0
    found, fault = [], None
    for part in parts:
        try:
            found.append(sign * _violation(part, values))
        except (ArithmeticError, TypeError) as error:
            fault = error
    if fault is not None and max(found, default=0.0) <= 0.0:
        raise fault
    return sign * max(found)


def _missed(one: ast.expr, op: ast.cmpop, other: ast.expr, values: Mapping[str, Value]) -> float:
    """A single comparison: the difference of its sides in parts of their sizes."""
    if isinstance(op, ast.In | ast.NotIn):
        among = _value(one, values) in _items(other, values)
        return -1.0 if among is isinstance(op, ast.In) else 1.0
    left, right = _value(one, values), _value(other, values)
    equal = left == right
    if isinstance(op, ast.Eq | ast.NotEq):
        holds, gap = equal is isinstance(op, ast.Eq), 0.0 if equal else 1.0
    else:
        holds, gap = _ORDER[type(op)](_real(left), _real(right)), 0.0
    if isinstance(left, float) and isinstance(right, float) and not equal:
        gap = abs(left - right) / (abs(left) + abs(right))
    gap = max(gap if math.isfinite(gap) else 1.0, 1e-9)
    return -gap if holds else gap


def _items(node: ast.expr, values: Mapping[str, Value]) -> Iterator[Value]:
    if isinstance(node, ast.Tuple | ast.List):
        yield from (_value(item, values) for item in node.elts)


def _value(node: ast.expr, values: Mapping[str, Value]) -> Value:
    match node:
        case ast.Constant(bool() | str() as value):
            return value
        case ast.Name(name) if name in _TRUTH and name not in values:
            return _TRUTH[name]
        case ast.Name(name) if isinstance(values[name], bool | str):
            return values[name]
        case ast.Compare() | ast.BoolOp() | ast.UnaryOp(ast.Not(), _):
            return _violation(node, values) <= 0.0
    return _number(node, values)


def _number(node: ast.expr, values: Mapping[str, Value]) -> float:
    match node:
        case ast.Constant(value):
            return _real(value)
        case ast.Name(name):
            return _real(values[name])
        case ast.UnaryOp(ast.USub(), operand):
            return -_number(operand, values)
        case ast.UnaryOp(_, operand):
            return _number(operand, values)
        case ast.BinOp(left, op, right):
            return _real(_ARITHMETIC[type(op)](_number(left, values), _number(right, values)))
    raise TypeError(type(node).__name__)


def _real(value: object) -> float:
    """TypeError where it is no real number; a whole one that no float holds is infinite."""
    if not isinstance(value, int | float):
        raise TypeError(type(value).__name__)
    try:
        return float(value)
    except OverflowError:
        return math.inf
