"""Rewrites `.metadata` of a torch_dist checkpoint without torch: every class that the pickle names becomes a stand-in
that keeps its arguments and state, and is written again under the same name.
"""
import copyreg
import io
import math
import pickle
import sys
import types

# What torch pickles as a call; the other classes as new objects with a state.
CALLED = {"Size", "_get_layout", "_MEM_FORMAT_ENCODING"}


class StandIn:
    """An object of a class that is not installed: how it was made, and its state."""

    def __new__(cls, *arguments):
        self = object.__new__(cls)
        self.arguments = arguments
        return self

    def __init__(self, *arguments):
        pass

    def __setstate__(self, state):
        self.state = state

    def __reduce_ex__(self, protocol):
        state = (self.state,) if hasattr(self, "state") else ()
        if type(self).__name__ in CALLED:
            return (type(self), self.arguments) + state
        return (copyreg.__newobj__, (type(self), *self.arguments)) + state


class Reader(pickle.Unpickler):
    def find_class(self, module, name):
        owner = sys.modules.get(module)
        if owner is None:
            owner = sys.modules[module] = types.ModuleType(module)
        if not hasattr(owner, name):
            setattr(owner, name, type(name, (StandIn,), {"__module__": module, "__qualname__": name}))
        return getattr(owner, name)


class Metadata:
    """`.metadata` as dictionaries: tensors by name, storage by (name, offsets)."""

    def __init__(self, path):
        self.path = path
        self.root = Reader(io.BytesIO(path.read_bytes())).load()
        self.tensors = self.root.state["state_dict_metadata"]
        self.storage = self.root.state["storage_data"]

    def save(self):
        self.path.write_bytes(pickle.dumps(self.root, protocol=4))

    def chunks(self, name):
        return self.tensors[name].state["chunks"]

    def entry(self, name, chunk=0):
        """The storage entry (a dictionary: relative_path, offset, length) of a piece."""
        wanted = values(self.chunks(name)[chunk].state["offsets"])
        for key, value in self.storage.items():
            if key.state["fqn"] == name and values(key.state["offset"]) == wanted:
                return value.state
        raise KeyError(f"{name} {wanted}")

    def remove_entry(self, name, chunk=None):
        wanted = None if chunk is None else values(self.chunks(name)[chunk].state["offsets"])
        for key in [key for key in self.storage if key.state["fqn"] == name]:
            if wanted is None or values(key.state["offset"]) == wanted:
                del self.storage[key]

    def move_chunk(self, name, chunk, offsets):
        """Moves a piece inside its tensor, in the pieces' list and in the storage's keys alike."""
        old = values(self.chunks(name)[chunk].state["offsets"])
        put_values(self.chunks(name)[chunk].state, "offsets", offsets)
        for key in self.storage:
            if key.state["fqn"] == name and values(key.state["offset"]) == old:
                put_values(key.state, "offset", offsets)


def values(size):
    """The numbers of a torch.Size, or of the plain tuple that FSDP has instead."""
    return size if isinstance(size, tuple) else tuple(size.arguments[0])


def set_values(size, numbers):
    size.arguments = (tuple(numbers),)


NAN = math.nan


def put_values(state, field, numbers):
    """The same for a field that may be a plain tuple."""
    if isinstance(state[field], tuple):
        state[field] = tuple(numbers)
    else:
        set_values(state[field], numbers)
