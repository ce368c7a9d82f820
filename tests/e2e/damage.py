"""Damaged checkpoints, each made from a sound one: CASES is a list of (name, fixture, damage, what must be said).

`damage(directory)` changes a private copy of the fixture; `directory` is its iteration's directory. What must be said:
the reasons of which one must be given, and words that must be in the message (a tensor, a file, a global).
"""
import json
import os
import re
import struct
import tempfile
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable

from metadata_pickle import NAN, Metadata, StandIn, set_values, values

DIST = "llama3_tp2_pp2_torch_dist"
DIST_OLD = "qwen3_tp2_pp2_mcore014_torch_dist"  # has common.pt
LEGACY = "llama3_tp2_pp2_torch"
FSDP = "fsdp-dtensor_llama3_dp3"
DCP = "torch-dcp_qwen3_fsdp2_dp2"
ZARR = "zarr_core0.8_llama3_tp2_pp1"
NORM = "decoder.final_layernorm.weight"
EMBEDDING = "embedding.word_embeddings.weight"

# What would appear if anything ran.
MARKER = Path(tempfile.gettempdir(), f"slip-marker-{os.getpid()}")
COMMAND = f"touch {MARKER}".encode()
OS_SYSTEM = b"cos\nsystem\n(S'%s'\ntR." % COMMAND
BUILTIN_EVAL = b"c__builtin__\neval\n(S'open(\"%s\", \"w\")'\ntR." % str(MARKER).encode()
GETATTR_CHAIN = (b"\x80\x04\x8c\x08builtins\x8c\x07getattr\x93\x8c\x02os\x8c\x06system\x93\x8c\x08__call__\x86R"
                 b"\x8c%c%s\x85R." % (len(COMMAND), COMMAND))
DEEP_LIST = b"\x80\x04" + b"]" * 1_000_000 + b"a" * 999_999 + b"."
DEEP_TUPLE = b"\x80\x04)" + b"\x85" * 1_000_000 + b"."
# {"state_dict_metadata": the dictionary itself}
CYCLE = b"\x80\x04}\x94\x8c\x13state_dict_metadatah\x00s."
# A memo and a list that doubles 40 times: a terabyte if it were expanded.
BILLION_LAUGHS = b"\x80\x04]\x94" + b"".join(b"]\x94(h%ch%ce" % (i, i) for i in range(40)) + b"."
HUGE_STRING = b"\x80\x04\x8d" + struct.pack("<Q", 1 << 60) + b"x."
ENDLESS_FRAME = b"\x80\x04\x95" + struct.pack("<Q", (1 << 64) - 1) + b"}."


@dataclass
class Case:
    name: str
    fixture: str
    damage: Callable
    reasons: tuple
    words: tuple = ()
    options: list = field(default_factory=list)


CORRUPT = ("CHECKPOINT_CORRUPT",)
FORBIDDEN = ("PICKLE_FORBIDDEN_GLOBAL",)
LIMITED = ("LIMIT_EXCEEDED", "CHECKPOINT_CORRUPT")


def edit_metadata(change):
    def damage(directory):
        metadata = Metadata(directory / ".metadata")
        change(metadata)
        metadata.save()
    return damage


def write(name, content):
    return lambda directory: (directory / name).write_bytes(content)


def truncate(name, keep):
    """Keeps a share (0..1) of a file."""
    def damage(directory):
        path = directory / name
        path.write_bytes(path.read_bytes()[:int(path.stat().st_size * keep)])
    return damage


def rewrite_zip(name, change, compression=zipfile.ZIP_STORED):
    """Writes an archive anew; change(member, content) gives each member's content, or None to drop it."""
    def damage(directory):
        path = directory / name
        with zipfile.ZipFile(path) as archive:
            members = [(info.filename, archive.read(info)) for info in archive.infolist()]
        with zipfile.ZipFile(path, "w", compression) as archive:
            for member, content in members:
                content = change(member, content)
                if content is not None:
                    archive.writestr(member, content)
    return damage


def replace_pickle(name, content):
    return rewrite_zip(name, lambda member, old: content if member.endswith("data.pkl") else old)


def patch_central_directory(name, field_offset, form, value):
    """Overwrites a field of every record of the central directory."""
    def damage(directory):
        path = directory / name
        content = bytearray(path.read_bytes())
        end = content.rindex(b"PK\5\6")
        position, = struct.unpack_from("<I", content, end + 16)
        for match in re.finditer(re.escape(b"PK\1\2"), bytes(content[position:end])):
            struct.pack_into(form, content, position + match.start() + field_offset, value)
        path.write_bytes(content)
    return damage



def overlap(metadata):
    """A second piece where the first already is, with its own storage."""
    name = EMBEDDING
    first, second = metadata.chunks(name)[:2]
    moved = list(values(second.state["offsets"]))
    axis = next(i for i, (a, b) in enumerate(zip(values(first.state["offsets"]), moved)) if a != b)
    moved[axis] -= 1
    metadata.move_chunk(name, 1, moved)


def missing_piece(metadata):
    metadata.remove_entry(EMBEDDING, 1)
    del metadata.chunks(EMBEDDING)[1]


def piece_sizes(numbers):
    def change(metadata):
        sizes = metadata.chunks(EMBEDDING)[0].state["sizes"]
        set_values(sizes, [n(v) if callable(n) else n for n, v in zip(numbers, values(sizes))])
    return change


def tensor_size(numbers):
    def change(metadata):
        set_values(metadata.tensors[EMBEDDING].state["size"], numbers)
    return change


def storage(**changes):
    return lambda metadata: metadata.entry(EMBEDDING).update(changes)


def unknown_tensor(metadata):
    """A weight that no Llama has, with sound storage."""
    import copy
    name = "decoder.mystery_projection.weight"
    metadata.tensors[name] = copy.deepcopy(metadata.tensors[NORM])
    for key, value in list(metadata.storage.items()):
        if key.state["fqn"] == NORM:
            twin = StandIn.__new__(type(key))
            twin.state = {**key.state, "fqn": name}
            metadata.storage[twin] = value


def missing_norm(metadata):
    metadata.remove_entry(NORM)
    del metadata.tensors[NORM]


def without(*names):
    """The tensors are gone from the index."""
    def change(metadata):
        for name in names:
            metadata.remove_entry(name)
            del metadata.tensors[name]
    return edit_metadata(change)


def without_all(prefix):
    """The same of all whose names begin so."""
    def change(metadata):
        for name in [name for name in metadata.tensors if name.startswith(prefix)]:
            metadata.remove_entry(name)
            del metadata.tensors[name]
    return edit_metadata(change)


def twin_of(name, twin):
    """The same storage under another name besides."""
    import copy

    def change(metadata):
        metadata.tensors[twin] = copy.deepcopy(metadata.tensors[name])
        for key, value in list(metadata.storage.items()):
            if key.state["fqn"] == name:
                other = StandIn.__new__(type(key))
                other.state = {**key.state, "fqn": twin}
                metadata.storage[other] = value
    return edit_metadata(change)


def same(value):
    return value


QWEN3_NEXT = "derived_qwen3_next"
NEMOTRON_H = "derived_nemotron_h_latent"
LLAMA4 = "derived_llama4"
QWEN2_5_VL = "derived_qwen2_5_vl"
QWEN3_VL = "derived_qwen3_vl_moe"
MISSING = ("TENSOR_MISSING",)
LAYER = "decoder.layers.1."
INNER = "mtp.layers.0.mtp_model_layer.layers.1."

LEGACY_FILE = "mp_rank_01_001/model_optim_rng.pt"
FSDP_EMBEDDING = "model.module." + EMBEDDING
ZARR_QKV = "decoder.layers.self_attention.linear_qkv.weight"


def overlap_uneven(metadata):
    """The second of two uneven pieces begins a row before the first ends."""
    first, _ = metadata.chunks(FSDP_EMBEDDING)
    rows, _ = values(first.state["sizes"])
    metadata.move_chunk(FSDP_EMBEDDING, 1, [rows - 1, 0])


def zarray(**changes):
    """Changes fields of the description of the QKV weight."""
    def damage(directory):
        path = directory / ZARR_QKV / ".zarray"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return damage


def two_formats(directory):
    (directory / "mp_rank_00").mkdir()
    (directory / "mp_rank_00" / "model_optim_rng.pt").write_bytes(b"")

CASES = [
    Case("distcp truncated", DIST, truncate("__1_0.distcp", 0.5), CORRUPT, ("__1_0.distcp",)),
    Case("distcp empty", DIST, write("__1_0.distcp", b""), CORRUPT, ("__1_0.distcp",)),
    Case("distcp missing", DIST, lambda d: (d / "__2_0.distcp").unlink(),
         ("CHECKPOINT_NOT_FOUND", "CHECKPOINT_CORRUPT"), ("__2_0.distcp",)),
    Case("metadata truncated", DIST, truncate(".metadata", 0.7), CORRUPT, (".metadata",)),
    Case("metadata empty", DIST, write(".metadata", b""), CORRUPT, (".metadata",)),
    Case("metadata is not a pickle", DIST, write(".metadata", b"hello" * 100), CORRUPT, (".metadata",)),
    Case("metadata is another pickle", DIST, write(".metadata", b"\x80\x04K\x01."), CORRUPT, (".metadata",)),
    Case("pieces overlap", DIST, edit_metadata(overlap), CORRUPT, (EMBEDDING,)),
    Case("piece missing", DIST, edit_metadata(missing_piece), CORRUPT + ("TENSOR_MISSING",), (EMBEDDING,)),
    Case("piece without storage", DIST, edit_metadata(lambda m: m.remove_entry(EMBEDDING, 0)), CORRUPT, (EMBEDDING,)),
    Case("piece larger than its tensor", DIST, edit_metadata(piece_sizes([lambda v: v * 2, same])), CORRUPT,
         (EMBEDDING,)),
    Case("piece of a negative size", DIST, edit_metadata(piece_sizes([lambda v: -v, same])), LIMITED),
    Case("piece of a NaN size", DIST, edit_metadata(piece_sizes([NAN, same])), LIMITED),
    Case("piece of an enormous size", DIST, edit_metadata(piece_sizes([1 << 62, same])), LIMITED),
    Case("tensor of a negative size", DIST, edit_metadata(tensor_size([-256, 64])), LIMITED),
    Case("tensor of a NaN size", DIST, edit_metadata(tensor_size([NAN, 64])), LIMITED),
    Case("tensor whose size overflows", DIST, edit_metadata(tensor_size([1 << 40, 1 << 40])), LIMITED),
    Case("tensor larger than its pieces", DIST, edit_metadata(tensor_size([512, 64])), CORRUPT, (EMBEDDING,)),
    Case("storage behind the end", DIST, edit_metadata(storage(offset=1 << 40)), CORRUPT, (".distcp",)),
    Case("storage at a negative offset", DIST, edit_metadata(storage(offset=-8)), LIMITED),
    Case("storage at a NaN offset", DIST, edit_metadata(storage(offset=NAN)), LIMITED),
    Case("storage of a negative length", DIST, edit_metadata(storage(length=-1)), LIMITED),
    Case("storage too short for its piece", DIST, edit_metadata(storage(length=100)), CORRUPT, (".distcp",)),
    Case("storage whose end overflows", DIST, edit_metadata(storage(length=(1 << 63) - 1)), LIMITED),
    Case("path that climbs out", DIST, edit_metadata(storage(relative_path="../../../../etc/passwd")),
         ("PATH_OUTSIDE_ROOT",), ("passwd",)),
    Case("absolute path", DIST, edit_metadata(storage(relative_path="/etc/passwd")), ("PATH_OUTSIDE_ROOT",),
         ("passwd",)),
    Case("link that leads out", DIST,
         lambda d: ((d / "__1_0.distcp").unlink(), (d / "__1_0.distcp").symlink_to("/etc/passwd")),
         ("PATH_OUTSIDE_ROOT",), ("__1_0.distcp",)),
    Case("unknown tensor", DIST, edit_metadata(unknown_tensor), ("TENSOR_UNKNOWN",), ("mystery_projection",)),
    Case("missing norm", DIST, edit_metadata(missing_norm), ("TENSOR_MISSING",), ("norm",)),
    Case("delta net's decay missing", QWEN3_NEXT, without(LAYER + "self_attention.A_log"), MISSING, ("A_log",)),
    Case("part of in_proj missing", QWEN3_NEXT, without(LAYER + "self_attention.in_proj.weight.beta"), MISSING,
         ("in_proj.weight.beta",)),
    Case("layer without a feed", QWEN3_NEXT, without(*(LAYER + "mlp." + name for name in (
        "router.weight", "experts.experts.linear_fc1.weight", "experts.experts.linear_fc2.weight",
        "shared_experts.linear_fc1.weight", "shared_experts.linear_fc2.weight", "shared_experts.gate_weight"))),
         MISSING, (LAYER + "mlp",)),
    Case("prediction layer's expert missing", QWEN3_NEXT,
         without("mtp.layers.0.transformer_layer.mlp.experts.experts.2.linear_fc2.weight"), MISSING,
         ("experts.2.linear_fc2",)),
    Case("output norm doubled", QWEN3_NEXT,
         twin_of("decoder.layers.0.self_attention.out_norm.weight", "decoder.layers.3.self_attention.out_norm.weight"),
         ("TENSOR_UNKNOWN",), ("decoder.layers.3.self_attention.out_norm.weight",)),
    Case("norm under two names", NEMOTRON_H,
         twin_of("decoder.layers.0.mixer.in_proj.layer_norm_weight", "decoder.layers.0.norm.weight"),
         ("TENSOR_DUPLICATED",), ("decoder.layers.0",)),
    Case("Mamba's skip missing", NEMOTRON_H, without("decoder.layers.4.mixer.D"), MISSING, ("mixer.D",)),
    Case("layer in a prediction layer without experts", NEMOTRON_H, without(
        *(INNER + "mlp." + name for name in ("experts.experts.linear_fc1.weight", "experts.experts.linear_fc2.weight"))),
         MISSING, ("experts",)),
    Case("shared expert missing", LLAMA4, without(LAYER + "mlp.shared_experts.linear_fc2.weight"), MISSING,
         ("shared_experts.linear_fc2",)),
    Case("router of a model that sees missing", QWEN3_VL, without("language_model.decoder.layers.1.mlp.router.weight"),
         MISSING, ("mlp.router.weight",)),
    Case("text of a model that sees under both prefixes", QWEN3_VL,
         twin_of("language_model.embedding.word_embeddings.weight", EMBEDDING), ("TENSOR_DUPLICATED",), (EMBEDDING,)),
    Case("vision tower missing", QWEN2_5_VL, without_all("visual."), MISSING, ("visual.",)),
    Case("last layer of a vision tower missing", QWEN3_VL, without_all("vision_model.decoder.layers.1."), MISSING,
         ("vision_model.decoder.layers.1.",)),
    Case("bias in a vision tower missing", QWEN2_5_VL, without("visual.blocks.1.mlp.up_proj.bias"), MISSING,
         ("visual.blocks.1.mlp.up_proj.bias",)),
    Case("merger that config.json does not have", QWEN3_VL, twin_of(
        "vision_model.decoder.deepstack_merger_list.1.patch_norm.bias",
        "vision_model.decoder.deepstack_merger_list.2.patch_norm.bias"), ("TENSOR_UNKNOWN",),
         ("deepstack_merger_list.2",)),
    Case("tensor in a vision tower that nobody knows", QWEN2_5_VL,
         twin_of("visual.merger.ln_q.weight", "visual.merger.ln_x.weight"), ("TENSOR_UNKNOWN",),
         ("visual.merger.ln_x.weight",)),
    Case("os.system in .metadata", DIST, write(".metadata", OS_SYSTEM), FORBIDDEN, ("os", "system", ".metadata")),
    Case("eval in .metadata", DIST, write(".metadata", BUILTIN_EVAL), FORBIDDEN, ("eval",)),
    Case("getattr chain in .metadata", DIST, write(".metadata", GETATTR_CHAIN), FORBIDDEN, ("getattr",)),
    Case("os.system in common.pt", DIST_OLD, replace_pickle("common.pt", OS_SYSTEM), FORBIDDEN,
         ("os", "system", "common.pt")),
    Case("os.system in a rank's file", LEGACY, replace_pickle(LEGACY_FILE, OS_SYSTEM), FORBIDDEN,
         ("os", "system", "model_optim_rng.pt")),
    Case("cyclic pickle", DIST, write(".metadata", CYCLE), LIMITED, (".metadata",)),
    Case("million-deep list", DIST, write(".metadata", DEEP_LIST), LIMITED, (".metadata",)),
    Case("million-deep tuple", DIST, write(".metadata", DEEP_TUPLE), LIMITED, (".metadata",)),
    Case("million-deep list in common.pt", DIST_OLD, replace_pickle("common.pt", DEEP_LIST), LIMITED, ("common.pt",)),
    Case("pickle that doubles 40 times", DIST, write(".metadata", BILLION_LAUGHS), LIMITED, (".metadata",)),
    Case("string of 2^60 bytes", DIST, write(".metadata", HUGE_STRING), LIMITED, (".metadata",)),
    Case("frame of 2^64 bytes", DIST, write(".metadata", ENDLESS_FRAME), LIMITED, (".metadata",)),
    Case("common.pt truncated", DIST_OLD, truncate("common.pt", 0.5), CORRUPT, ("common.pt",)),
    Case("rank's file truncated", LEGACY, truncate(LEGACY_FILE, 0.5), CORRUPT, (LEGACY_FILE,)),
    Case("rank's file missing", LEGACY, lambda d: (d / LEGACY_FILE).unlink(),
         ("CHECKPOINT_NOT_FOUND", "CHECKPOINT_CORRUPT"), ("mp_rank_01_001",)),
    Case("archive with compressed members", LEGACY,
         rewrite_zip(LEGACY_FILE, lambda member, content: content, zipfile.ZIP_DEFLATED),
         ("CHECKPOINT_UNSUPPORTED", "CHECKPOINT_CORRUPT"), (LEGACY_FILE,)),
    Case("zip bomb", LEGACY,
         rewrite_zip(LEGACY_FILE, lambda member, content: bytes(100_000_000) if member.endswith("data.pkl") else content,
                     zipfile.ZIP_DEFLATED),
         ("CHECKPOINT_UNSUPPORTED", "CHECKPOINT_CORRUPT", "LIMIT_EXCEEDED"), (LEGACY_FILE,)),
    Case("archive without its pickle", LEGACY,
         rewrite_zip(LEGACY_FILE, lambda member, content: None if member.endswith("data.pkl") else content), CORRUPT,
         (LEGACY_FILE,)),
    Case("archive without its large storages", LEGACY,
         rewrite_zip(LEGACY_FILE, lambda member, content: None if "/data/" in member and len(content) > 4000 else content), CORRUPT,
         (LEGACY_FILE,)),
    Case("storage shorter than its tensor", LEGACY,
         rewrite_zip(LEGACY_FILE, lambda member, content: content[:64] if "/data/" in member else content), CORRUPT,
         (LEGACY_FILE,)),
    Case("central directory: sizes too large", LEGACY, patch_central_directory(LEGACY_FILE, 24, "<I", 0x7FFFFFFF),
         LIMITED, (LEGACY_FILE,)),
    Case("central directory: stored sizes differ", LEGACY, patch_central_directory(LEGACY_FILE, 20, "<I", 1), CORRUPT,
         (LEGACY_FILE,)),
    Case("central directory: positions behind the end", LEGACY,
         patch_central_directory(LEGACY_FILE, 42, "<I", 0x7FFFFFFF), CORRUPT, (LEGACY_FILE,)),
    Case("central directory: names longer than the file", LEGACY,
         patch_central_directory(LEGACY_FILE, 28, "<H", 0xFFFF), CORRUPT, (LEGACY_FILE,)),
    Case("FSDP: distcp truncated", FSDP, truncate("__2_0.distcp", 0.5), CORRUPT, ("__2_0.distcp",)),
    Case("FSDP: uneven pieces overlap", FSDP, edit_metadata(overlap_uneven), CORRUPT, (EMBEDDING,)),
    Case("FSDP: piece missing", FSDP, edit_metadata(lambda m: (m.remove_entry(FSDP_EMBEDDING, 1),
                                                              m.chunks(FSDP_EMBEDDING).pop())), CORRUPT, (EMBEDDING,)),
    Case("FSDP: path that climbs out", FSDP,
         edit_metadata(lambda m: m.entry(FSDP_EMBEDDING).update(relative_path="../../../../etc/passwd")),
         ("PATH_OUTSIDE_ROOT",), ("passwd",)),
    Case("FSDP: metadata truncated", FSDP, truncate(".metadata", 0.7), CORRUPT, (".metadata",)),
    Case("FSDP2: distcp missing", DCP, lambda d: (d / "__1_0.distcp").unlink(),
         ("CHECKPOINT_NOT_FOUND", "CHECKPOINT_CORRUPT"), ("__1_0.distcp",)),
    Case("FSDP2: a second format beside it", DCP, two_formats, ("CHECKPOINT_UNSUPPORTED",), ("mp_rank_0",)),
    Case("zarr: chunk missing", ZARR, lambda d: (d / ZARR_QKV / "1.1.0").unlink(), CORRUPT, (ZARR_QKV, "1.1.0")),
    Case("zarr: chunk truncated", ZARR, truncate(ZARR_QKV + "/1.1.0", 0.5), CORRUPT, (ZARR_QKV, "1.1.0")),
    Case("zarr: chunk too long", ZARR, write(ZARR_QKV + "/1.1.0", bytes(10_000)), CORRUPT, (ZARR_QKV, "1.1.0")),
    Case("zarr: chunk that is a link out", ZARR,
         lambda d: ((d / ZARR_QKV / "0.0.0").unlink(), (d / ZARR_QKV / "0.0.0").symlink_to("/etc/passwd")),
         ("PATH_OUTSIDE_ROOT",), (ZARR_QKV,)),
    Case("zarr: description missing", ZARR, lambda d: (d / ZARR_QKV / ".zarray").unlink(), CORRUPT, (ZARR_QKV,)),
    Case("zarr: description truncated", ZARR, truncate(ZARR_QKV + "/.zarray", 0.5), CORRUPT, (".zarray",)),
    Case("zarr: compressor", ZARR, zarray(compressor={"id": "blosc", "clevel": 5}), ("CHECKPOINT_UNSUPPORTED",),
         ("blosc", ".zarray")),
    Case("zarr: negative size", ZARR, zarray(shape=[-3, 80, 48]), CORRUPT, (".zarray",)),
    Case("zarr: NaN size", ZARR, zarray(shape=[NAN, 80, 48]), CORRUPT, (".zarray",)),
    Case("zarr: a trillion chunks", ZARR, zarray(shape=[10**12, 80, 48]), LIMITED, (ZARR_QKV,)),
    Case("zarr: size that overflows", ZARR, zarray(shape=[1 << 62, 1 << 62, 48]), CORRUPT, (".zarray",)),
    Case("zarr: another grid", ZARR, zarray(chunks=[1, 80, 48]), CORRUPT, (ZARR_QKV,)),
    Case("zarr: os.system in common.pt", ZARR, replace_pickle("common.pt", OS_SYSTEM), FORBIDDEN,
         ("os", "system", "common.pt")),
    Case("tracker names an iteration that is not there", DIST,
         lambda d: (d.parent / "latest_checkpointed_iteration.txt").write_text("777"), ("CHECKPOINT_NOT_FOUND",), ("777",)),
    Case("tracker climbs out", DIST,
         lambda d: (d.parent / "latest_checkpointed_iteration.txt").write_text("../../etc"),
         ("CHECKPOINT_CORRUPT", "CHECKPOINT_NOT_FOUND", "PATH_OUTSIDE_ROOT"), ()),
    Case("directory without a checkpoint", DIST,
         lambda d: [path.unlink() for path in d.iterdir()], ("CHECKPOINT_NOT_FOUND", "CHECKPOINT_UNSUPPORTED"), ()),
]
