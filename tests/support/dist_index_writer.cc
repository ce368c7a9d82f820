#include "tests/support/dist_index_writer.h"

#include <utility>

#include <fmt/format.h>

namespace slipway::test {
namespace {

constexpr std::string_view kModule = "torch.distributed.checkpoint.metadata";
constexpr int kBatch = 1000;  // Python pickles containers in batches of this many

// Opens and closes batches around the items of a container.
class Batches {
 public:
  Batches(std::string& out, char end) : out_(out), end_(end) {}
  void BeforeItem() {
    if (count_++ % kBatch == 0) {
      Close();
      out_ += '(';
      open_ = true;
    }
  }
  void Close() {
    if (std::exchange(open_, false)) {
      out_ += end_;
    }
  }

 private:
  std::string& out_;
  char end_;
  bool open_ = false;
  std::int64_t count_ = 0;
};

}  // namespace

void DistIndexWriter::Little(std::int64_t value, int size) {
  for (int i = 0; i < size; ++i) {
    bytes_ += static_cast<char>((value >> (8 * i)) & 0xff);
  }
}

void DistIndexWriter::Memoize() {
  bytes_ += '\x94';
  ++memo_;
}

void DistIndexWriter::Get(std::uint32_t number) {
  const bool is_short = number < 256;
  bytes_ += is_short ? 'h' : 'j';
  Little(number, is_short ? 1 : 4);
}

void DistIndexWriter::Text(std::string_view text) {
  if (const auto known = texts_.find(text); known != texts_.end()) {
    Get(known->second);
    return;
  }
  texts_.emplace(std::string(text), memo_);
  bytes_ += '\x8c';
  bytes_ += static_cast<char>(text.size());
  bytes_ += text;
  Memoize();
}

void DistIndexWriter::Class(std::string_view module, std::string_view name) {
  const std::string key = fmt::format("{}.{}", module, name);
  if (const auto known = classes_.find(key); known != classes_.end()) {
    Get(known->second);
    return;
  }
  Text(module);
  Text(name);
  bytes_ += '\x93';
  classes_.emplace(key, memo_);
  Memoize();
}

void DistIndexWriter::Integer(std::int64_t value) {
  if (value < 256) {
    bytes_ += 'K';
    Little(value, 1);
  } else if (value < 65536) {
    bytes_ += 'M';
    Little(value, 2);
  } else if (value < (std::int64_t{1} << 31)) {
    bytes_ += 'J';
    Little(value, 4);
  } else {
    bytes_ += "\x8a\x08";
    Little(value, 8);
  }
}

// torch.Size of one to three numbers.
void DistIndexWriter::Size(std::span<const std::int64_t> extents) {
  Class("torch", "Size");
  for (const std::int64_t extent : extents) {
    Integer(extent);
  }
  bytes_ += static_cast<char>(0x84 + extents.size());
  Memoize();
  bytes_ += '\x85';
  Memoize();
  bytes_ += 'R';
  Memoize();
}

// A dataclass up to its first field; EndObject() closes it.
void DistIndexWriter::BeginObject(std::string_view module, std::string_view name) {
  Class(module, name);
  bytes_ += ")\x81";
  Memoize();
  bytes_ += '}';
  Memoize();
  bytes_ += '(';
}

void DistIndexWriter::Properties(std::string_view dtype) {
  Class(kModule, "TensorProperties");
  Raw(")\x81");
  Memoize();
  Raw("(");
  Class("torch", dtype);
  Class("torch", "strided");
  Raw("\x89");
  Class(kModule, "_MEM_FORMAT_ENCODING");
  Raw(std::string_view("K\0\x85", 3));
  Memoize();
  Raw("R");
  Memoize();
  Raw("\x89t");
  Memoize();
  Raw("b");
}

void DistIndexWriter::Entry(const IndexedEntry& entry) {
  Text(entry.name);
  if (entry.dtype.empty()) {
    Class(kModule, "BytesStorageMetadata");
    Raw(")\x81");
    Memoize();
    return;
  }
  BeginObject(kModule, "TensorStorageMetadata");
  Text("properties");
  Properties(entry.dtype);
  Text("size");
  Size(entry.shape);
  Text("chunks");
  Raw("]");
  Memoize();
  Batches batches(bytes_, 'e');
  for (const IndexedBlock& block : entry.blocks) {
    batches.BeforeItem();
    BeginObject(kModule, "ChunkStorageMetadata");
    Text("offsets");
    Size(block.offsets);
    Text("sizes");
    Size(block.sizes);
    EndObject();
  }
  batches.Close();
  EndObject();
}

void DistIndexWriter::Storage(const IndexedEntry& entry, const IndexedBlock& block) {
  BeginObject(kModule, "MetadataIndex");
  Text("fqn");
  Text(entry.name);
  Text("index");
  Raw("N");
  Text("offset");
  if (entry.dtype.empty()) {
    Raw("N");
  } else {
    Size(block.offsets);
  }
  EndObject();
  BeginObject("torch.distributed.checkpoint.filesystem", "_StorageInfo");
  Text("relative_path");
  Text(block.file);
  Text("offset");
  Integer(block.position);
  Text("length");
  Integer(block.length);
  EndObject();
}

std::string DistIndexWriter::Write(std::span<const IndexedEntry> entries) {
  Raw("\x80\x04");
  BeginObject(kModule, "Metadata");
  Text("state_dict_metadata");
  Raw("}");
  Memoize();
  Batches described(bytes_, 'u');
  for (const IndexedEntry& entry : entries) {
    described.BeforeItem();
    Entry(entry);
  }
  described.Close();
  Text("planner_data");
  Raw("N");
  Text("storage_data");
  Raw("}");
  Memoize();
  Batches located(bytes_, 'u');
  for (const IndexedEntry& entry : entries) {
    for (const IndexedBlock& block : entry.blocks) {
      located.BeforeItem();
      Storage(entry, block);
    }
  }
  located.Close();
  EndObject();
  Raw(".");
  return std::exchange(bytes_, {});
}

}  // namespace slipway::test
