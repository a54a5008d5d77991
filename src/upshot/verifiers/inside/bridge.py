"""Python objects shared by two processes: the code under test in one sandbox, its tests in another.

Code can defeat tests in its own process: it can exit with status 0, patch the test runner, the
clock or `__eq__`, or read the expected values. Here the tests hold stand-ins. Only plain data
crosses (codec.py): a result arrives as a real int, str, list, ... created on this side, or as a
stand-in for an object that stays in the other process. Code under test can reach nothing of the
tests but the arguments of its calls: it may call them, iterate over them, and read their public
attributes.

A comparison of a stand-in with plain data is sent among decoys that are near it: an object that
equals those too is refused. Arithmetic and ordering of stand-ins with plain data are refused
altogether.
"""

import builtins
import os
import sys
from _struct import Struct

import codec

_MAX_BYTES = 16_000_000
"""Largest message in bytes."""
_SIZE = Struct(">I")
_FORWARDED = (
    "len",
    "next",
    "contains",
    "getitem",
    "setitem",
    "delitem",
    "bool",
    "str",
    "repr",
    "enter",
    "exit",
    "format",
    "reversed",
    "index",
)
_BINARY = (
    "add",
    "sub",
    "mul",
    "truediv",
    "floordiv",
    "mod",
    "pow",
    "matmul",
    "and",
    "or",
    "xor",
    "lshift",
    "rshift",
)
_INNER = ("_", "gi_", "cr_", "ag_", "f_", "tb_", "co_")
"""Prefixes of attributes that lead from an object to the program that holds it: frames, code."""
_OUTER = (
    "__name__",
    "__qualname__",
    "__doc__",
    "__class__",
    "__module__",
    "__annotations__",
    "__version__",
    "__all__",
    "__dict__",
    "__cause__",
    "__context__",
    "__notes__",
)
"""Exceptions that tests may read of the code."""
_ORDER = ("lt", "le", "gt", "ge")


class Ended(Exception):
    """The other process has ended: it was killed, or it exited."""


class Refused(Exception):
    """A value is not plain data, and may not be used as if it were."""


class Peer:
    """One end of the connection.

    `trusting`: the other side may do anything with our objects (as tests with the code); else it
    may only call what it was given and read public attributes.
    """

    def __init__(self, descriptor: int, trusting: bool) -> None:
        self.pipe = os.fdopen(descriptor, "r+b", buffering=0)
        self.trusting = trusting
        self.objects: dict[int, object] = {}
        self.numbers: dict[int, int] = {}
        self.last = 0
        self.errors: dict[int, type[BaseException]] = {}

    # --- messages

    def send(self, message):
        """Send one message: its length, then its bytes."""
        data = codec.dumps(message, self._pack)
        if len(data) > _MAX_BYTES:
            data = codec.dumps({"error": ["OverflowError", f"a message of {len(data)} bytes", 0]})
        view = memoryview(_SIZE.pack(len(data)) + data)
        try:
            while view:
                view = view[self.pipe.write(view) or 0 :]
        except OSError:
            raise Ended("the code under test ended before it had answered") from None

    def receive(self):
        """Receive the next message."""
        size = _SIZE.unpack(self._exactly(4))[0]
        if size > _MAX_BYTES:
            raise Ended("the other side sent too much")
        try:
            message = codec.loads(self._exactly(size), self._unpack)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise Ended("the other side sent no message") from None
        if not isinstance(message, dict):
            raise Ended("the other side sent no message")
        return message

    def _exactly(self, size):
        parts = bytearray()
        while len(parts) < size:
            try:
                part = self.pipe.read(size - len(parts))
            except OSError:
                part = b""
            if not part:
                raise Ended("the code under test ended before it had answered")
            parts += part
        return bytes(parts)

    # --- values

    def _pack(self, value):
        """A value that is not plain data as tag and content, by its exact type so none can pose."""
        kind = type(value)
        if kind is Stand and object.__getattribute__(value, "_peer") is self:
            return "yours", object.__getattribute__(value, "_number")
        if kind is complex:
            return "complex", [value.real, value.imag]
        if kind is range or kind is slice:
            return kind.__name__, [value.start, value.stop, value.step]
        if kind is bytearray:
            return "bytearray", bytes(value)
        if value is NotImplemented or value is Ellipsis:
            return "name", repr(value)
        plain = _plain(value)
        if plain is not value:
            return "plain", plain
        standard = _standard(value)
        if standard is not None:
            return "standard", list(standard)
        if kind is type and getattr(builtins, value.__name__, None) is value:
            return "name", value.__name__
        if isinstance(value, type) and issubclass(value, BaseException):
            number = self.errors_number(value)
            return (
                ("yours", number)
                if number
                else ("raises", [value.__name__, _base(value), self.number(value)])
            )
        return "mine", [self.number(value), kind.__name__]

    def _unpack(self, tag, content):
        """The value that `_pack` packed."""
        if tag == "yours":
            return self.objects[content]
        if tag == "mine":
            return Stand(self, int(content[0]), str(content[1]))
        if tag == "plain":
            return content
        if tag == "raises":
            return self.error_class(str(content[0]), str(content[1]), int(content[2]))
        if tag == "complex":
            return complex(*content)
        if tag in ("range", "slice", "bytearray"):
            return (
                bytearray(content)
                if tag == "bytearray"
                else {"range": range, "slice": slice}[tag](*content)
            )
        if tag == "name":
            named = {"NotImplemented": NotImplemented, "Ellipsis": Ellipsis}.get(
                content
            ) or getattr(builtins, content)
            if named is NotImplemented or named is Ellipsis or isinstance(named, type):
                return named
        if tag == "standard":
            return _make_standard(str(content[0]), content[1])
        raise ValueError("no such tag")

    def number(self, value: object) -> int:
        """The number by which the other side knows an object of ours."""
        if id(value) not in self.numbers:
            self.numbers[id(value)] = self.last = self.last + 1
            self.objects[self.last] = value
        return self.numbers[id(value)]

    def error_class(self, name: str, base: str, number: int) -> type[BaseException]:
        """A real exception class for one of the other side, to be raised and caught here."""
        if number not in self.errors:
            parent = getattr(builtins, base, Exception)
            if not (isinstance(parent, type) and issubclass(parent, Exception)):
                parent = Exception
            self.errors[number] = type(
                str(name), (parent,), {"__module__": "solution", "_remote": number}
            )
        return self.errors[number]

    def errors_number(self, value: type) -> int:
        """The other side's number of an exception class of theirs; 0: it is not one."""
        return next((number for number, error in self.errors.items() if error is value), 0)

    # --- calls

    def ask(self, operation: str, target: object, *arguments: object, **named: object) -> object:
        """Have the other side perform an operation on an object; raises what it raised."""
        self.send({"do": operation, "on": target, "with": list(arguments), "named": named})
        while True:
            message = self.receive()
            if "do" in message:
                self.answer(message)
                continue
            if message.get("said"):
                sys.stdout.write(str(message["said"]))
            if "error" in message:
                raise self._raised(message["error"])
            for changed, place in zip(
                message.get("changed") or [], _mutable(arguments), strict=False
            ):
                _replace(place, changed)
            return message.get("value")

    def _raised(self, error: list) -> BaseException:
        try:
            name, text, number = str(error[0]), str(error[1]), error[2]
        except (IndexError, TypeError, KeyError):
            raise Ended("the other side sent no error") from None
        kind = self.errors.get(number) or getattr(builtins, name, None)
        if kind is None or not (isinstance(kind, type) and issubclass(kind, Exception)):
            kind = self.error_class(name, "Exception", number) if number else RuntimeError
        try:
            return kind(text)
        except Exception:
            return RuntimeError(f"{name}: {text}")

    def answer(self, message: dict) -> None:
        """Perform an operation for the other side and reply."""
        output = _OutputCollector() if self.trusting else None
        stdout, sys.stdout = sys.stdout, output or sys.stdout
        try:
            target, arguments, named = message["on"], message["with"], message["named"]
            if not self.trusting:
                if id(target) not in self.numbers:
                    raise PermissionError("the code under test may use only what it was given")
                _require_allowed(message["do"], arguments)
            reply = {"value": _perform(message["do"], target, arguments, named)}
            changed = _mutable(arguments)
            if changed:
                reply["changed"] = changed
        except Ended:
            raise
        except BaseException as error:
            kind = type(error)
            named = isinstance(error, Exception)
            reply = {
                "error": [
                    _base(kind) if named else "RuntimeError",
                    _text(error),
                    self.errors_number(kind)
                    or (0 if kind.__module__ == "builtins" else self.number(kind)),
                ]
            }
        finally:
            sys.stdout = stdout
        if output is not None and output.parts:
            reply["said"] = "".join(output.parts)[:100_000]
        self.send(reply)

    def serve(self) -> None:
        """Answer until the other side has ended."""
        while True:
            try:
                self.answer(self.receive())
            except Ended:
                return


class _OutputCollector:
    """Collects standard output while code under test runs."""

    def __init__(self):
        self.parts = []

    def write(self, text):
        self.parts.append(str(text))
        return len(text)

    def flush(self):
        pass

    def isatty(self):
        return False


class Stand:
    """Stands for an object of the other side."""

    __slots__ = ("_kind", "_number", "_peer")

    def __init__(self, peer: Peer, number: int, kind: str) -> None:
        for name, value in (("_peer", peer), ("_number", number), ("_kind", kind)):
            object.__setattr__(self, name, value)

    def __getattr__(self, name: str) -> object:
        return _ask("get", self, name)

    def __setattr__(self, name: str, value: object) -> None:
        _ask("set", self, name, value)

    def __delattr__(self, name: str) -> None:
        _ask("del", self, name)

    def __call__(self, *arguments: object, **named: object) -> object:
        return _ask("call", self, *arguments, **named)

    def __eq__(self, other: object) -> bool:
        return _compare("eq", self, other)

    def __ne__(self, other: object) -> bool:
        return not _compare("eq", self, other)

    def __instancecheck__(self, instance: object) -> bool:
        return isinstance(instance, Stand) and _ask("isinstance", self, instance) is True

    def __iter__(self):
        iterator = _ask("iter", self)
        while True:
            try:
                yield _ask("next", iterator)
            except StopIteration:
                return

    def __await__(self):
        return _ask("await", self)
        yield

    def __dir__(self):
        return _ask("dir", self)


def _ask(operation: str, stand: Stand, *arguments: object, **named: object) -> object:
    return object.__getattribute__(stand, "_peer").ask(operation, stand, *arguments, **named)


def _compare(operation: str, stand: Stand, other: object) -> bool:
    """Compare with a value; plain data is mixed with decoys in an unpredictable order."""
    if isinstance(other, Stand):
        return _ask(operation, stand, other) is True
    questions = [(decoy, False) for decoy in _decoys(other, os.urandom(16))]
    questions.insert(os.urandom(1)[0] % (len(questions) + 1), (other, True))
    answers = [(_ask(operation, stand, value) is True, real) for value, real in questions]
    if any(answer for answer, real in answers if not real):
        raise Refused("the result agrees with anything it is compared with")
    return next(answer for answer, real in answers if real)


def _decoys(value: object, noise: bytes) -> list:
    """Values similar to a value, but never equal to it for an honest object."""
    step = 1 + noise[0] % 7
    if type(value) is bool:
        return [not value]
    if type(value) is int:
        return [value + step, value - step]
    if type(value) is float:
        return [value + step * (1 + abs(value)), value - step * (1 + abs(value))]
    if type(value) is str:
        return [noise.hex()[: max(len(value), 4)], value + noise.hex()[:4]]
    if type(value) in (list, tuple):
        return [type(value)([*value, noise.hex()]), type(value)([noise.hex()] * max(len(value), 1))]
    if type(value) is dict:
        return [{**value, noise.hex(): step}]
    if type(value) in (set, frozenset):
        return [type(value)([*value, noise.hex()])]
    return [noise.hex(), step + 2**40]


def _forward(name: str):
    def method(self: Stand, *arguments: object) -> object:
        if name == "contains":
            return _compare(name, self, arguments[0])
        value = _ask(name, self, *arguments)
        return bool(value) if name == "bool" else value

    return method


def _binary_operator(name: str):
    def method(self: Stand, other: object) -> object:
        if not isinstance(other, Stand):
            raise Refused(
                f"the result is a {object.__getattribute__(self, '_kind')}, not plain data: it"
                f" cannot be used with {type(other).__name__}"
            )
        value = _ask(name, self, other)
        return value is True if name in _ORDER else value

    return method


for _name in _FORWARDED:
    setattr(Stand, f"__{_name}__", _forward(_name))
for _name in (*_BINARY, *_ORDER):
    setattr(Stand, f"__{_name}__", _binary_operator(_name))
    if _name in _BINARY:
        setattr(Stand, f"__r{_name}__", _binary_operator(_name))
Stand.__hash__ = _forward("hash")


def _perform(operation: str, target: object, arguments: list, named: dict) -> object:
    """Perform one operation."""
    if operation == "call":
        return target(*arguments, **named)
    if operation == "call_within":
        return _call_within(arguments[0], target, arguments[1:])
    if operation == "get":
        if arguments[0].startswith(_INNER[1:]) or (
            arguments[0].startswith("__") and arguments[0] not in _OUTER
        ):
            raise AttributeError(f"{arguments[0]} is not available from another process")
        return getattr(target, arguments[0])
    if operation == "set":
        return setattr(target, *arguments)
    if operation == "del":
        return delattr(target, arguments[0])
    if operation == "eq":
        value = target == arguments[0]
        return value is True or (type(value).__module__ == "numpy" and bool(value))
    if operation == "isinstance":
        return isinstance(arguments[0], target)
    if operation == "dir":
        return dir(target)
    if operation == "await":
        import asyncio

        async def waited() -> object:
            return await target

        return asyncio.run(waited())
    if operation in ("iter", "next", "len", "bool", "str", "repr", "hash", "reversed"):
        return getattr(builtins, operation)(target)
    if operation == "format":
        return format(target, *arguments)
    import operator

    if operation in ("getitem", "setitem", "delitem", "contains", "index"):
        return getattr(operator, operation)(target, *arguments)
    if operation in ("enter", "exit"):
        return getattr(type(target), f"__{operation}__")(target, *arguments)
    if operation in _ORDER:
        return getattr(operator, operation)(target, arguments[0]) is True
    if operation in _BINARY:
        return getattr(operator, operation + "_" if operation in ("and", "or") else operation)(
            target, arguments[0]
        )
    raise TypeError(f"no operation {operation}")


def _call_within(seconds: float, target: object, arguments: list) -> object:
    """Call with a time limit in seconds, interrupted as soon as Python can."""
    import signal

    def late(number: int, frame: object) -> None:
        raise TimeoutError(f"no answer within {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        return target(*arguments)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _require_allowed(operation: str, arguments: list) -> None:
    """Allow only what code under test may do with its arguments."""
    if operation in (
        "call",
        "iter",
        "next",
        "len",
        "bool",
        "getitem",
        "contains",
        "str",
        "repr",
        "hash",
        "eq",
    ):
        return
    if operation == "get" and type(arguments[0]) is str and not arguments[0].startswith(_INNER):
        return
    raise PermissionError(f"the code under test may not {operation} this")


def _mutable(arguments: tuple | list) -> list:
    return [value for value in arguments if type(value) in (list, dict, set, bytearray)]


def _replace(place: list | dict | set | bytearray, value: object) -> None:
    """Apply a change that the code under test made to an argument."""
    if type(value) is not type(place):
        return
    if isinstance(place, (list, bytearray)):
        place[:] = value
    else:
        place.clear()
        place.update(value)


def _plain(value: object) -> object:
    """A value that is equivalent to plain data (numpy, defaultdict) as plain data; else itself."""
    kind = type(value)
    if kind.__module__ == "numpy" and hasattr(value, "tolist"):
        return value.tolist()
    if kind.__module__ == "collections" and kind.__name__ == "defaultdict":
        return dict(value.items())
    return value


def _standard(value: object) -> tuple[str, object] | None:
    """The name and content of a value of the standard library's data classes."""
    kind = type(value)
    if kind is not getattr(sys.modules.get(kind.__module__), kind.__name__, None):
        return None
    name = f"{kind.__module__}.{kind.__name__}"
    if name in ("decimal.Decimal", "fractions.Fraction", "pathlib.PosixPath"):
        return kind.__name__, str(value)
    if name in ("datetime.datetime", "datetime.date", "datetime.time"):
        return kind.__name__, value.isoformat()
    if name == "datetime.timedelta":
        return kind.__name__, [value.days, value.seconds, value.microseconds]
    if name in ("collections.Counter", "collections.OrderedDict"):
        return kind.__name__, [list(item) for item in value.items()]
    return (kind.__name__, list(value)) if name == "collections.deque" else None


def _make_standard(name: str, value: object) -> object:
    """A value of the standard library's data classes."""
    import collections
    import datetime
    import decimal
    import fractions
    import pathlib

    makers = {
        "Decimal": decimal.Decimal,
        "Fraction": fractions.Fraction,
        "PosixPath": pathlib.PurePosixPath,
        "deque": collections.deque,
        "datetime": datetime.datetime.fromisoformat,
        "date": datetime.date.fromisoformat,
        "time": datetime.time.fromisoformat,
        "timedelta": lambda parts: datetime.timedelta(*parts),
        "Counter": lambda items: collections.Counter(dict(items)),
        "OrderedDict": collections.OrderedDict,
    }
    return makers[name](value)


def _base(kind: type) -> str:
    """The nearest built-in class of an exception class."""
    return next(base.__name__ for base in kind.__mro__ if base.__module__ == "builtins")


def _text(error: BaseException) -> str:
    try:
        return str(error)[:2000]
    except BaseException:
        return "(no text)"


def solution(peer: Peer) -> type(sys):
    """The module under test, as the tests import it."""
    module = type(sys)("solution")
    remote = Stand(peer, 0, "module")
    module.__getattr__ = lambda name: _missing(remote, name)  # type: ignore[attr-defined]
    module.__all__ = [name for name in _ask("dir", remote) if not name.startswith("_")]  # type: ignore[attr-defined]
    return module


def _missing(remote: Stand, name: str) -> object:
    if name.startswith("__"):
        raise AttributeError(name)
    return _ask("get", remote, name)
