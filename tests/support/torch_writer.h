// Writes torch.save archives for tests, with storages of any size as bytes, or as holes in the file.
//
//   1. members data.pkl, byteorder, data/0.., version; stored, sizes only in the central directory
//   2. local headers padded so that a member's bytes begin at a multiple of 64 from the archive's beginning
//   3. zip64 fields where a size or position needs them
#pragma once

#include <cstdint>
#include <fstream>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace slipway::test {

// Writes a storage's `size` bytes at the stream's position, or seeks past them.
using StorageWriter = std::function<void(std::ostream&, std::int64_t size)>;

struct TorchStorage {
  std::int64_t size = 0;
  StorageWriter write;
};

// Appends one archive to `out` and returns its length.
std::int64_t WriteTorchArchive(std::ostream& out, std::string_view root, std::string_view pickle,
                               const std::vector<TorchStorage>& storages);

// The pickle of one tensor that is all of storage 0, with `elements` in the storage.
std::string TensorPickle(std::string_view storage_class, const std::vector<std::int64_t>& shape, std::int64_t elements);

}  // namespace slipway::test
