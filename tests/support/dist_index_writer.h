// Writes ".metadata" of torch.distributed.checkpoint as Python's pickler does (protocol 4: each value is memoized, each
// repeated text or class is fetched), for as many blocks as a test wants.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace slipway::test {

struct IndexedBlock {
  std::vector<std::int64_t> offsets;
  std::vector<std::int64_t> sizes;
  std::string file;
  std::int64_t position = 0;
  std::int64_t length = 0;
};

// A tensor; or, without blocks of any rank, an object whose bytes are at its one block.
struct IndexedEntry {
  std::string name;
  std::string dtype;  // of torch: "bfloat16"; empty: an object
  std::vector<std::int64_t> shape;
  std::vector<IndexedBlock> blocks;
};

// Not thread-safe.
class DistIndexWriter {
 public:
  [[nodiscard]] std::string Write(std::span<const IndexedEntry> entries);

 private:
  void Raw(std::string_view bytes) { bytes_ += bytes; }
  void Memoize();
  void Get(std::uint32_t number);
  void Text(std::string_view text);
  void Class(std::string_view module, std::string_view name);
  void Integer(std::int64_t value);
  void Size(std::span<const std::int64_t> extents);
  void BeginObject(std::string_view module, std::string_view name);
  void EndObject() { bytes_ += "ub"; }
  void Entry(const IndexedEntry& entry);
  void Properties(std::string_view dtype);
  void Storage(const IndexedEntry& entry, const IndexedBlock& block);
  void Little(std::int64_t value, int size);

  std::string bytes_;
  std::uint32_t memo_ = 0;
  std::map<std::string, std::uint32_t, std::less<>> texts_;
  std::map<std::string, std::uint32_t, std::less<>> classes_;
};

}  // namespace slipway::test
