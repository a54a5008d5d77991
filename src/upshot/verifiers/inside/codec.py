"""Plain data as bytes and back, for bytes that a stranger may have written.

Faster to import than `json`, and exact about types: a tuple is not a list, 1 is not 1.0. Reading
creates nothing but plain data of built-in types, or raises ValueError. Other values are packed and
unpacked by a hook, as a tag with content.
"""

from _struct import Struct

_SIZE = Struct(">I")
_FLOAT = Struct(">d")
_MAX_DEPTH = 200
CONTAINERS = {list: b"l", tuple: b"t", set: b"S", frozenset: b"Z"}
_MAKERS = {b"l": list, b"t": tuple, b"S": set, b"Z": frozenset}


def dumps(value, hook=None):
    """Bytes of a value.

    `hook(value)` returns (tag, content) for other values; without it TypeError is raised.
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
    """The value of bytes. `hook(tag, content)` unpacks what the other hook packed.

    Raises:
        ValueError: the bytes are not a value.
    """
    value, end = _read(data, 0, hook, 0)
    if end != len(data):
        raise ValueError("bytes after the value")
    return value


def _read(data, position, hook, depth):
    tag = data[position : position + 1]
    position += 1
    if depth > _MAX_DEPTH or not tag:
        raise ValueError("too deep, or cut off")
    if tag in b"NTF":
        return {b"N": None, b"T": True, b"F": False}[tag], position
    if tag == b"f":
        if position + 8 > len(data):
            raise ValueError("cut off")
        return _FLOAT.unpack_from(data, position)[0], position + 8
    if position + 4 > len(data):
        raise ValueError("cut off")
    size = _SIZE.unpack_from(data, position)[0]
    position += 4
    if tag in b"isbx":
        if position + size > len(data):
            raise ValueError("cut off")
        text = data[position : position + size]
        position += size
        if tag == b"i":
            return int(text, 16), position
        if tag == b"s":
            return text.decode("utf-8", "surrogatepass"), position
        if tag == b"b":
            return text, position
        content, position = _read(data, position, hook, depth + 1)
        if hook is None:
            raise ValueError("no plain data")
        return hook(text.decode(), content), position
    if size > len(data):
        raise ValueError("cut off")
    if tag == b"d":
        found = {}
        for _ in range(size):
            key, position = _read(data, position, hook, depth + 1)
            found[key], position = _read(data, position, hook, depth + 1)
        return found, position
    if tag not in _MAKERS:
        raise ValueError("no such tag")
    items = []
    for _ in range(size):
        item, position = _read(data, position, hook, depth + 1)
        items.append(item)
    return _MAKERS[tag](items), position
