"""Plain data as bytes and back, for bytes that a stranger may have written.

Faster to load than `json`, and true to types: a tuple is no list, 1 is no 1.0. Reading makes
nothing but plain data of built-in types, or raises ValueError. What is no plain data is packed and
unpacked by a hook, as a tag with content.
"""

from _struct import Struct

_SIZE = Struct(">I")
_FLOAT = Struct(">d")
_DEEP = 200
CONTAINERS = {list: b"l", tuple: b"t", set: b"S", frozenset: b"Z"}
_MAKERS = {b"l": list, b"t": tuple, b"S": set, b"Z": frozenset}


def dumps(value, hook=None):
    """Bytes of a value.

    `hook(value)` gives (tag, content) for what is no plain data; without it TypeError is raised.
    """
    parts = []
    _write(value, parts.append, hook)
    return b"".join(parts)


def _write(value, put, hook):
    kind = type(value)
    if value is None:
        put(b"N")
    elif kind is bool:
        put(b"T" if value else b"F")
    elif kind is int:
        _text(b"i", b"%x" % value if value >= 0 else b"-%x" % -value, put)
    elif kind is float:
        put(b"f" + _FLOAT.pack(value))
    elif kind is str:
        _text(b"s", value.encode("utf-8", "surrogatepass"), put)
    elif kind is bytes:
        _text(b"b", value, put)
    elif kind in CONTAINERS:
        put(CONTAINERS[kind] + _SIZE.pack(len(value)))
        for item in value:
            _write(item, put, hook)
    elif kind is dict:
        put(b"d" + _SIZE.pack(len(value)))
        for key, item in value.items():
            _write(key, put, hook)
            _write(item, put, hook)
    elif hook is None:
        raise TypeError(f"{kind.__name__} is no plain data")
    else:
        tag, content = hook(value)
        _text(b"x", tag.encode(), put)
        _write(content, put, hook)


def _text(tag, data, put):
    put(tag + _SIZE.pack(len(data)) + data)


def loads(data, hook=None):
    """The value of bytes. `hook(tag, content)` makes what the other hook packed.

    Raises:
        ValueError: the bytes are no value.
    """
    value, end = _read(data, 0, hook, 0)
    if end != len(data):
        raise ValueError("bytes after the value")
    return value


def _read(data, at, hook, depth):
    tag = data[at : at + 1]
    at += 1
    if depth > _DEEP or not tag:
        raise ValueError("too deep, or cut off")
    if tag in b"NTF":
        return {b"N": None, b"T": True, b"F": False}[tag], at
    if tag == b"f":
        if at + 8 > len(data):
            raise ValueError("cut off")
        return _FLOAT.unpack_from(data, at)[0], at + 8
    if at + 4 > len(data):
        raise ValueError("cut off")
    size = _SIZE.unpack_from(data, at)[0]
    at += 4
    if tag in b"isbx":
        if at + size > len(data):
            raise ValueError("cut off")
        text = data[at : at + size]
        at += size
        if tag == b"i":
            return int(text, 16), at
        if tag == b"s":
            return text.decode("utf-8", "surrogatepass"), at
        if tag == b"b":
            return text, at
        content, at = _read(data, at, hook, depth + 1)
        if hook is None:
            raise ValueError("no plain data")
        return hook(text.decode(), content), at
    if size > len(data):
        raise ValueError("cut off")
    if tag == b"d":
        found = {}
        for _ in range(size):
            key, at = _read(data, at, hook, depth + 1)
            found[key], at = _read(data, at, hook, depth + 1)
        return found, at
    if tag not in _MAKERS:
        raise ValueError("no such tag")
    items = []
    for _ in range(size):
        item, at = _read(data, at, hook, depth + 1)
        items.append(item)
    return _MAKERS[tag](items), at
