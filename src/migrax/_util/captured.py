"""The values that functions capture: closures, globals, defaults, attributes. A compiled program holds them as
constants, so that it is valid only while they stay the same."""

import dataclasses
import dis
import functools
import hashlib
import sys
import types
import warnings
import weakref
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

_PLAIN = (type(None), bool, int, str, bytes, type(Ellipsis), type(NotImplemented))
_NUMBERS = (float, complex)
# Functions and objects of these packages hold nothing of the user's, except under one of the names below.
_LIBRARIES = frozenset(("jax", "jaxlib", "numpy", "scipy", "migrax", "equinox", "optimistix", "lineax", "jaxtyping"))
_INNER_NAMES = ("__wrapped__", "__func__", "func", "fget", "method")
_MAX_OBJECTS = 20_000  # limit on the number of objects, beyond which a function refers to a whole application
_MIN_ARRAY_LENGTH = 64  # length from which on lists of numbers are read as arrays


class Captured:
    """The values that some functions capture now, as far as these can change.

    **Attributes:**

    - `entries`: the content of each variable, by its place, in a form that can be compared and hashed.
    - `nbytes`: the bytes of the arrays among them.
    - `jitted`: functions of `jax.jit` that capture values, of which JAX keeps those at the time of tracing.
    - `opaque`: names of types that cannot be inspected.
    """

    def __init__(self, roots: Iterable[Any]):
        self.entries: dict[tuple[int, Any], Any] = {}
        self.nbytes = 0
        self.jitted: list[Any] = []
        self.opaque: set[str] = set()
        self._numbers: dict[int, int] = {}  # number of each visited object, by its id
        self._alive: list[Any] = []  # keeps the objects alive, so that their ids are not reused
        self._contents = 0  # number of variables that are neither functions nor modules
        for i, root in enumerate(roots):
            self.entries[-1, i] = self._of(root, frozenset())

    def without(self, ignored: frozenset[tuple[int, Any]]) -> tuple[Any, ...]:
        if not ignored:
            return tuple(self.entries.values())
        return tuple(value for place, value in self.entries.items() if place not in ignored)

    def prepare(self) -> None:
        """Prepares for tracing a new program: clears JAX's caches of the user's jitted functions that capture values,
        and warns of what cannot be inspected."""
        for f in self.jitted:
            f.clear_cache()
        for what in sorted(self.opaque):
            warnings.warn(
                f"the likelihood uses {what}, whose contents cannot be checked: a change inside is not noticed, and a "
                "compiled fit keeps the first contents. Give what may change as data",
                stacklevel=2,
            )

    def written_since(self, before: "Captured") -> frozenset[tuple[int, Any]]:
        """Returns the places of plain numbers, texts and lists of them that have changed: the function writes them."""
        nothing = (type(None), None)  # a `None` may have been replaced by something that was read in
        pairs = ((place, value, before.entries.get(place, nothing)) for place, value in self.entries.items())
        return frozenset(
            place for place, now, then in pairs if then != nothing and now != then and _plain(now) and _plain(then)
        )

    def _of(self, x: Any, names: frozenset[str]) -> Any:
        """Returns the content of `x`, of which code uses the attributes `names`."""
        kind = type(x)
        if kind in _PLAIN:
            self._contents += 1
            return kind, x
        if kind in _NUMBERS:
            self._contents += 1
            return kind, repr(x)  # NaN is not equal to itself, and -0.0 is to 0.0
        if isinstance(x, Tracer):
            return Identity(x)
        if isinstance(x, jax.Array | np.ndarray | np.generic):
            return self._array(x)
        if isinstance(x, types.ModuleType):
            return self._module(x, names)
        number = self._numbers.get(id(x))
        if number is not None:
            return "met", number
        number = self._numbers[id(x)] = len(self._numbers)
        self._alive.append(x)
        if number > _MAX_OBJECTS:
            self.opaque.add("so many objects")
            return Identity(x)
        return self._object(x, number, names)

    def _object(self, x: Any, number: int, names: frozenset[str]) -> Any:
        if isinstance(x, types.FunctionType):
            return self._function(x, number)
        if isinstance(x, type):
            return self._class(x, number)
        if isinstance(x, types.MethodType):
            return "method", self._of(x.__func__, names), self._of(x.__self__, names)
        if isinstance(x, functools.partial):
            return "partial", *(self._of(part, names) for part in (x.func, x.args, x.keywords))
        if isinstance(x, types.BuiltinFunctionType | types.MethodWrapperType):
            holder = getattr(x, "__self__", None)
            content = None if isinstance(holder, types.ModuleType | type) else self._of(holder, names)
            return "builtin", x.__name__, content if content is not None else Identity(x)
        if isinstance(x, list | tuple | set | frozenset | dict | Mapping):
            return self._container(x, number, names)
        return self._instance(x, number, names)

    def _array(self, x: Any) -> Any:
        self._contents += 1
        if isinstance(x, jax.Array):
            self.nbytes += x.size * x.dtype.itemsize
            return _content_of(Identity(x))
        if x.dtype.hasobject:
            return Numbers(("objects", x.shape, self._of(x.tolist(), frozenset())))
        self.nbytes += x.nbytes
        content = Numbers((x.dtype.str, x.shape, _hashed(np.asarray(x))))
        if type(x) is np.ndarray or isinstance(x, np.generic):
            return content
        extra = [_hashed(np.ma.getmaskarray(x))] if isinstance(x, np.ma.MaskedArray) else [repr(getattr(x, "unit", ""))]
        return Numbers((*content, *extra))

    def _function(self, f: types.FunctionType, number: int) -> Any:
        module = f.__globals__.get("__name__", "")
        is_library_function = _is_library(module)
        if is_library_function and _is_library(f.__module__ or module) and f.__closure__ is None:
            return Identity(f)
        globals_, names, imports = _names(f.__code__)
        entries = self.entries
        entries[number, "code"] = f.__code__
        if f.__defaults__:
            entries[number, "defaults"] = self._of(f.__defaults__, names)
        if f.__kwdefaults__:
            entries[number, "kwdefaults"] = self._of(f.__kwdefaults__, names)
        for name, cell in zip(f.__code__.co_freevars, f.__closure__ or (), strict=True):
            try:
                content = cell.cell_contents
            except ValueError:  # not assigned yet
                continue
            if not (is_library_function and _is_library_object(content)):
                entries[number, name] = self._of(content, names)
        for name, attribute in vars(f).items():
            entries[number, "." + name] = self._of(attribute, names)
        if not is_library_function:
            # a name that is not among the globals is a builtin
            self._named(number, f.__globals__, globals_, names)
            for name in imports:
                if name in sys.modules:
                    entries[number, "import " + name] = self._of(sys.modules[name], names)
        return "function", number

    def _named(self, number: int, space: Mapping[str, Any], wanted: Iterable[str], names: frozenset[str]) -> None:
        for name in wanted:
            if name in space and (number, name) not in self.entries:
                self.entries[number, name] = None  # a placeholder, because modules may refer to each other
                self.entries[number, name] = self._of(space[name], names)

    def _module(self, module: types.ModuleType, names: frozenset[str]) -> Any:
        if _is_library(module.__name__):
            return Identity(module)
        number = self._numbers.setdefault(id(module), len(self._numbers))
        self._named(number, vars(module), names, names)
        return "module", number

    def _class(self, cls: type, number: int) -> Any:
        for base in cls.__mro__:
            if _is_library(base.__module__):
                continue
            for name, x in vars(base).items():
                special = name.startswith("__") or name == "_abc_impl"
                if not special or isinstance(x, types.FunctionType):
                    self.entries[number, (base.__qualname__, name)] = self._of(x, frozenset())
        return Identity(cls)

    def _container(self, x: Any, number: int, names: frozenset[str]) -> Any:
        kind: Any = type(x)
        if isinstance(x, list | tuple) and len(x) >= _MIN_ARRAY_LENGTH and all(type(a) in (int, float) for a in x):
            array = np.asarray(x)
            if not array.dtype.hasobject:
                self._contents += 1
                return kind, array.dtype.str, len(x), _hashed(array)
        if isinstance(x, Mapping):
            content: Any = tuple((self._of(k, names), self._of(v, names)) for k, v in x.items())
        elif isinstance(x, list | tuple):
            content = tuple(self._of(a, names) for a in x)
        else:
            content = frozenset(self._of(a, names) for a in x)
        if kind not in (list, tuple, set, frozenset, dict):  # attributes beside the entries
            return Identity(kind), content, self._attributes(x, number) if hasattr(x, "__dict__") else None
        return kind, content

    def _instance(self, x: Any, number: int, names: frozenset[str]) -> Any:
        kind, module = type(x), type(x).__module__
        is_of_library = _is_library(module)
        is_jitted, contents_before = hasattr(x, "clear_cache"), self._contents
        if not is_of_library:
            self._of(kind, frozenset())
            return Identity(kind), self._attributes(x, number)
        if isinstance(x, eqx.Module | types.SimpleNamespace):
            return Identity(kind), self._attributes(x, number)
        if callable(getattr(x, "__wrapped__", None)) and _is_library(getattr(x, "__module__", None) or module):
            inner = x.__wrapped__
            if isinstance(inner, types.FunctionType) and inner.__closure__ is None and _is_library(inner.__module__):
                return Identity(x)
        inner = [self._of(getattr(x, name), names) for name in _INNER_NAMES if callable(getattr(x, name, None))]
        if is_jitted and self._contents > contents_before:
            self.jitted.append(x)
        if inner:
            return Identity(kind), *inner
        if callable(getattr(kind, "__array__", None)):  # such as tables of pandas
            try:
                labels = tuple(map(str, getattr(x, "columns", ())))
                return Identity(kind), labels, self._of(np.asarray(x), names)
            except Exception:
                return Identity(x)
        if _top(module) in _LIBRARIES or _top(module) in sys.stdlib_module_names:
            return Identity(x)
        return Identity(kind), self._attributes(x, number)

    def _attributes(self, x: Any, number: int) -> Any:
        attributes = dict(getattr(x, "__dict__", {}))
        slot_groups = [getattr(base, "__slots__", ()) for base in type(x).__mro__]
        for name in (name for group in slot_groups for name in ((group,) if isinstance(group, str) else group)):
            if name not in ("__dict__", "__weakref__") and hasattr(x, name):
                attributes[name] = getattr(x, name)
        # a Python class without `__dict__` lists its attributes in `__slots__`, which may be empty
        is_known = hasattr(x, "__dict__") or any("__slots__" in vars(base) for base in type(x).__mro__)
        if not attributes and not is_known:
            self.opaque.add(f"{type(x).__module__}.{type(x).__qualname__}")
            return Identity(x)
        for name, value in attributes.items():
            self.entries[number, name] = self._of(value, frozenset())
        return number


class Numbers(tuple[Any, ...]):
    """The content of an array."""

    __slots__ = ()


class Identity:
    """A weak reference to an object, equal only to another one to the same object."""

    __slots__ = ("_hash", "_of")

    def __init__(self, x: Any):
        self._hash = id(x)
        try:
            self._of = weakref.ref(x)
        except TypeError:
            self._of = lambda: x

    def __call__(self) -> Any:
        return self._of()

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        referent = self()
        return isinstance(other, Identity) and referent is not None and referent is other()


def roots_of(tree: Any) -> list[Any]:
    """Returns what may be or hold a function among the static parts of the modules of a tree, without its leaves."""
    candidates: list[Any] = []
    _gather(tree, candidates, False)
    return candidates


def _gather(x: Any, candidates: list[Any], static: bool) -> None:
    if isinstance(x, dict):
        x = tuple(x.values())
    if isinstance(x, list | tuple):
        for entry in x:
            _gather(entry, candidates, static)
    elif isinstance(x, eqx.Module):
        for field in dataclasses.fields(x):
            _gather(getattr(x, field.name, None), candidates, static or field.metadata.get("static", False))
        if not _is_library(type(x).__module__):
            candidates.append(type(x))  # the likelihood may call its methods
    elif static and not isinstance(x, (*_PLAIN, *_NUMBERS)):
        candidates.append(x)
    elif dataclasses.is_dataclass(x) and not isinstance(x, type):
        candidates.extend(f for f in vars(x).values() if callable(f) and not isinstance(f, eqx.Module))


def may_see(x: Any) -> bool:
    """Returns whether `x` could capture anything, that is, whether it is no number, text or array."""
    return not isinstance(x, (*_PLAIN, *_NUMBERS)) and not eqx.is_array(x)


def can_change(x: Any) -> bool:
    """Returns whether `x` captures something that may change."""
    if not may_see(x):
        return False
    entries = Captured([x]).entries
    return len(entries) > 1 or not isinstance(entries[-1, 0], Identity)


def _plain(content: Any) -> bool:
    if isinstance(content, Numbers):
        return False
    if isinstance(content, tuple):
        return all(map(_plain, content))
    return content is None or isinstance(content, (*_PLAIN, *_NUMBERS, type)) or _is_of_tracer(content)


def _is_of_tracer(content: Any) -> bool:
    return isinstance(content, Identity) and (content() is None or isinstance(content(), Tracer))


def _hashed(array: np.ndarray) -> bytes:
    return hashlib.sha256(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data).digest()


@functools.lru_cache(maxsize=1024)
def _content_of(identity: Identity) -> Any:
    """Returns the content of a JAX array, which cannot change, so that it is read only once."""
    array = identity()
    if jnp.issubdtype(array.dtype, jax.dtypes.extended) or not array.is_fully_addressable or array.is_deleted():
        return identity
    return Numbers((str(array.dtype), array.shape, array.weak_type, _hashed(np.asarray(array))))


@functools.lru_cache(maxsize=4096)
def _names(code: types.CodeType) -> tuple[frozenset[str], frozenset[str], frozenset[str]]:
    """Returns the globals, attributes and modules that code uses, including the code of inner functions."""
    globals_, names, imports = set(), set(), set()
    for op in dis.get_instructions(code):
        if op.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            globals_.add(op.argval)
        elif op.opname == "IMPORT_NAME":
            imports.add(op.argval)
        elif op.opname == "IMPORT_FROM" or op.opname.startswith(("LOAD_ATTR", "LOAD_METHOD", "LOAD_SUPER")):
            names.add(op.argval)
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            for names_here, names_inside in zip((globals_, names, imports), _names(inner), strict=True):
                names_here |= names_inside
    return frozenset(globals_), frozenset(names), frozenset(imports)


def _top(module: str) -> str:
    return module.partition(".")[0]


def _is_library(module: str) -> bool:
    return _is_installed(_top(module or ""))


@functools.lru_cache(maxsize=4096)
def _is_installed(name: str) -> bool:
    """Returns whether a package is installed or part of Python, rather than the user's own."""
    if name == "__main__":
        return False
    if name in _LIBRARIES or name in sys.stdlib_module_names:
        return True
    module = sys.modules.get(name)
    paths = [getattr(module, "__file__", None), *getattr(module, "__path__", ())]
    return any(path and not {"site-packages", "dist-packages"}.isdisjoint(Path(path).parts) for path in paths)


def _is_library_object(x: Any) -> bool:
    """Returns whether `x`, in a closure of a library, is a library's own object."""
    may_capture = isinstance(x, (*_callables(), list, tuple, dict, np.ndarray, jax.Array, eqx.Module))
    return not may_capture and _is_library(type(x).__module__) and type(x) not in (*_PLAIN, *_NUMBERS)


def _callables() -> tuple[type, ...]:
    return (types.FunctionType, types.MethodType, functools.partial, type(jax.jit(len)))
