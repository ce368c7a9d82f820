// Any bytes as a torch archive that should hold one tensor.
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "tests/support/memory_source.h"
#include "worker/engine/checkpoint/archive.h"
#include "worker/engine/checkpoint/torch_archive.h"
#include "worker/engine/checkpoint/torch_tensor.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace slipway;
  const auto file = std::make_shared<const test::MemoryFile>(std::string(reinterpret_cast<const char*>(data), size));
  const auto archive = engine::TorchArchive::Open(*file, 0, file->size());
  if (!archive.ok()) {
    return 0;
  }
  const auto document = archive->ReadPickle();
  const auto stored = document.ok() ? engine::DescribeTensor(*document, document->root())
                                    : absl::StatusOr<engine::TorchTensor>(document.status());
  if (!stored.ok()) {
    return 0;
  }
  engine::Checkpoint checkpoint;
  checkpoint.files.push_back({.name = "fuzz", .identity = {}, .file = file});
  engine::StoredTensor tensor;
  tensor.dtype = stored->dtype;
  tensor.shape = stored->shape;
  engine::Piece piece;
  piece.offsets.resize(stored->shape.size());
  piece.sizes = stored->shape;
  piece.length = file->size();
  piece.in_archive = true;
  const auto located = engine::LocateElements(checkpoint, tensor, piece);
  // What it promises: the elements lie inside the file.
  if (located.ok() && (located->position < 0 || located->length < 0 || located->length > file->size() ||
                       located->position > file->size() - located->length)) {
    __builtin_trap();
  }
  return 0;
}
