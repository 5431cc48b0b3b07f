"""The expressions of HS3 (its section "Generic Expressions"), read by a parser of its own and never run as code.

`a ** b` and `condition ? a : b` are understood, too: ROOT writes them.
"""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

_MAX_LENGTH, _MAX_DEPTH = 20_000, 60  # characters, nested brackets
_TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)"
    r"|(?P<name>[A-Za-z_][A-Za-z0-9_.]*)"
    r"|(?P<sign>===|!==|==|!=|<=|>=|&&|\|\||\*\*|:(?!:)|[-+*/^<>!(),?]))"
)
_CONSTANTS = {"PI": 3.141592653589793, "EULER": 2.718281828459045, "TRUE": 1.0, "FALSE": 0.0}
_MAX_ULPS = 8  # units in the last place by which equal numbers of "==" may differ

Lookup = Callable[[str], Array]


def _equal(a: Array, b: Array) -> Array:
    return jnp.abs(a - b) <= _MAX_ULPS * jnp.finfo(jnp.result_type(a, b)).eps * jnp.maximum(jnp.abs(a), jnp.abs(b))


_FUNCTIONS: dict[str, tuple[int, Callable[..., Array]]] = {
    "exp": (1, jnp.exp),
    "log": (1, jnp.log),
    "sqrt": (1, jnp.sqrt),
    "abs": (1, jnp.abs),
    "pow": (2, jnp.power),
    "min": (2, jnp.minimum),
    "max": (2, jnp.maximum),
    "sin": (1, jnp.sin),
    "cos": (1, jnp.cos),
    "tan": (1, jnp.tan),
    "asin": (1, jnp.arcsin),
    "acos": (1, jnp.arccos),
    "atan": (1, jnp.arctan),
    "ifelse": (3, lambda c, a, b: jnp.where(c != 0, a, b)),
}
_COMPARISONS: dict[str, Callable[[Array, Array], Array]] = {
    "===": jnp.equal,
    "!==": jnp.not_equal,
    "==": _equal,
    "!=": lambda a, b: ~_equal(a, b),
    "<=": jnp.less_equal,
    ">=": jnp.greater_equal,
    "<": jnp.less,
    ">": jnp.greater,
}


class Expression(NamedTuple):
    """A parsed expression: its `text`, the `names` in it, and the tree, of tuples `(kind, ...)`."""

    text: str
    names: tuple[str, ...]
    tree: tuple[Any, ...]

    def value(self, lookup: Lookup) -> Array:
        """Its value, where `lookup` returns the values of names. True is 1."""
        return _value(self.tree, lookup)


def parse(text: str) -> Expression:
    """**Raises:** `ValueError` for an invalid expression, with the position, and one that is too long or too deep."""
    if len(text) > _MAX_LENGTH:
        raise ValueError(f"an expression of {len(text)} characters; more than {_MAX_LENGTH} are not read")
    parser = _Parser(_tokens(text))
    tree = parser.conditional()
    if parser.token != ("end", ""):
        raise parser.error("an operator or the end")
    return Expression(text, tuple(dict.fromkeys(parser.names)), tree)


def _tokens(text: str) -> list[tuple[str, str, int]]:
    tokens, position, end = [], 0, len(text.rstrip())
    while position < end:
        match = _TOKEN.match(text, position)
        if match is None:
            start = len(text) - len(text[position:].lstrip())
            hint = " (HS3 has exp for TMath::Exp, and so on)" if text.startswith("::", start) else ""
            raise ValueError(f"{text[start : start + 20]!r} at character {start} means nothing in an expression{hint}")
        kind = match.lastgroup
        assert kind is not None
        tokens.append((kind, match[kind], match.start(kind)))
        position = match.end()
    return [*tokens, ("end", "", end)]


class _Parser:
    """A parser by recursive descent, with a method for each precedence of operators, from the lowest."""

    def __init__(self, tokens: list[tuple[str, str, int]]):
        self.tokens, self.position, self.depth = tokens, 0, 0
        self.names: list[str] = []

    @property
    def token(self) -> tuple[str, str]:
        return self.tokens[self.position][:2]

    def error(self, wanted: str) -> ValueError:
        kind, text, character = self.tokens[self.position]
        got = "the end" if kind == "end" else repr(text)
        return ValueError(f"{wanted} is wanted at character {character} of the expression, not {got}")

    def take(self, *signs: str) -> str | None:
        kind, text = self.token
        if kind == "sign" and text in signs:
            self.position += 1
            return text
        return None

    def _chain(self, signs: tuple[str, ...], part: Callable[[], tuple[Any, ...]], kind: str) -> tuple[Any, ...]:
        """`a op b op c` as `(kind, ((None, a), (op, b), (op, c)))`: flat, however long."""
        parts: list[tuple[str | None, tuple[Any, ...]]] = [(None, part())]
        while (sign := self.take(*signs)) is not None:
            parts.append((sign, part()))
        return parts[0][1] if len(parts) == 1 else (kind, tuple(parts))

    def conditional(self) -> tuple[Any, ...]:
        condition = self.disjunction()
        if self.take("?") is None:
            return condition
        with self:
            chosen = self.conditional()
            if self.take(":") is None:
                raise self.error("a colon")
            return ("call", "ifelse", (condition, chosen, self.conditional()))

    def disjunction(self) -> tuple[Any, ...]:
        return self._chain(("||",), self.conjunction, "or")

    def conjunction(self) -> tuple[Any, ...]:
        return self._chain(("&&",), self.comparison, "and")

    def comparison(self) -> tuple[Any, ...]:
        return self._chain(tuple(_COMPARISONS), self.sum, "compare")

    def sum(self) -> tuple[Any, ...]:
        return self._chain(("+", "-"), self.product, "sum")

    def product(self) -> tuple[Any, ...]:
        return self._chain(("*", "/"), self.unary, "product")

    def unary(self) -> tuple[Any, ...]:
        sign = self.take("-", "+", "!")
        if sign is None:
            return self.power()
        with self:
            return (sign, self.unary())

    def power(self) -> tuple[Any, ...]:
        base = self.atom()
        if self.take("^", "**") is None:
            return base
        with self:
            return ("^", base, self.unary())  # right-associative, and -x^2 is -(x^2)

    def atom(self) -> tuple[Any, ...]:
        kind, text = self.token
        if kind == "number":
            self.position += 1
            return ("number", float(text))
        if kind == "name":
            self.position += 1
            return self._call(text) if self.token == ("sign", "(") else self._name(text)
        if self.take("(") is None:
            raise self.error("a number, a name or a bracket")
        with self:
            inner = self.conditional()
        self._close()
        return inner

    def _name(self, text: str) -> tuple[Any, ...]:
        if text in _CONSTANTS:
            return ("number", _CONSTANTS[text])
        self.names.append(text)
        return ("name", text)

    def _call(self, name: str) -> tuple[Any, ...]:
        if name not in _FUNCTIONS:
            raise ValueError(f"there is no function {name!r} in expressions; there are {', '.join(_FUNCTIONS)}")
        self.take("(")
        with self:
            arguments = [self.conditional()]
            while self.take(",") is not None:
                arguments.append(self.conditional())
        self._close()
        count, _ = _FUNCTIONS[name]
        if len(arguments) != count:
            raise ValueError(f"{name} takes {count} arguments, and {len(arguments)} are given")
        return ("call", name, tuple(arguments))

    def _close(self) -> None:
        if self.take(")") is None:
            raise self.error("a closing bracket")

    def __enter__(self) -> None:
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            raise ValueError(f"an expression with more than {_MAX_DEPTH} brackets in each other")

    def __exit__(self, *_: object) -> None:
        self.depth -= 1


def _value(tree: tuple[Any, ...], lookup: Lookup) -> Array:
    kind = tree[0]
    if kind == "number":
        return jnp.asarray(tree[1], jnp.result_type(float))
    if kind == "name":
        return lookup(tree[1])
    if kind == "call":
        return _FUNCTIONS[tree[1]][1](*(_value(part, lookup) for part in tree[2]))
    if kind == "^":
        return _power(tree[1], tree[2], lookup)
    if kind == "!":
        return _number(_value(tree[1], lookup) == 0)
    if kind in "+-":
        inner = _value(tree[1], lookup)
        return -inner if kind == "-" else inner
    (_, first), *rest = tree[1]
    total = _value(first, lookup)
    for sign, part in rest:
        total = _combined(kind, sign, total, _value(part, lookup))
    return total


def _power(base: tuple[Any, ...], exponent: tuple[Any, ...], lookup: Lookup) -> Array:
    """An integer exponent is kept as an integer, so that negative bases and their derivatives are right."""
    if exponent[0] == "number" and float(exponent[1]).is_integer() and abs(exponent[1]) < 100:
        return _value(base, lookup) ** int(exponent[1])
    return _value(base, lookup) ** _value(exponent, lookup)


def _combined(kind: str, sign: str, a: Array, b: Array) -> Array:
    if kind == "sum":
        return a + b if sign == "+" else a - b
    if kind == "product":
        return a * b if sign == "*" else a / b
    if kind == "compare":
        return _number(_COMPARISONS[sign](a, b))
    return _number((a != 0) & (b != 0) if kind == "and" else (a != 0) | (b != 0))


def _number(truth: Array) -> Array:
    return truth.astype(jnp.result_type(float))
