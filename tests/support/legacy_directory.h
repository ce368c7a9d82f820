// A test fixture: a legacy checkpoint of a few tensors, written rank by rank into a temporary directory.
#pragma once

#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "absl/status/statusor.h"
#include "common/error.h"
#include "tests/support/brute_force.h"
#include "tests/support/pickle_writer.h"
#include "tests/support/torch_writer.h"
#include "worker/engine/checkpoint/canonical.h"
#include "worker/engine/checkpoint/legacy.h"

namespace slipway::test {

// A tensor of a rank's file: its elements are bytes 0, 1, 2... of its storage, as uint8.
struct View {
  std::vector<std::int64_t> shape;
  std::vector<std::int64_t> strides = {};
  std::int64_t offset = 0;
  std::int64_t storage = 0;  // elements; 0: as many as the shape has
};

class LegacyDirectory : public testing::Test {
 public:
  static absl::StatusOr<std::shared_ptr<const engine::Checkpoint>> Read(const std::string& iteration) {
    SLIPWAY_ASSIGN_OR_RETURN(std::shared_ptr<const engine::SourceDirectory> directory,
                             engine::OpenLocalDirectory(iteration));
    return engine::ReadLegacyCheckpoint(directory, directory, 100, false);
  }

 protected:
  using Model = std::map<std::string, View>;

  LegacyDirectory() : path_(std::filesystem::temp_directory_path() / ("slipway_legacy_" + UniqueName())) {
    std::filesystem::create_directories(path_);
  }
  ~LegacyDirectory() override { std::filesystem::remove_all(path_); }

  static std::string UniqueName() {
    const auto* const info = testing::UnitTest::GetInstance()->current_test_info();
    return std::string(info->name()) + std::to_string(getpid());
  }

  void Write(const std::string& rank, const Model& model, const std::map<std::string, std::int64_t>& arguments,
             double version = 3.0) {
    PickleWriter pickle(2);
    std::vector<TorchStorage> storages;
    pickle.EmptyDictionary().Mark().Text("args");
    pickle.Global("argparse", "Namespace").EmptyTuple().NewObject().EmptyDictionary().Mark();
    for (const auto& [name, value] : arguments) {
      pickle.Text(name).Integer(value);
    }
    pickle.SetItems().Build().Text("checkpoint_version").Float(version).Text("iteration").Integer(100);
    pickle.Text("optimizer").None().Text("model").EmptyDictionary().Mark();
    for (const auto& [name, view] : model) {
      Tensor(pickle.Text(name), view, storages);
    }
    pickle.SetItems().SetItems();
    std::filesystem::create_directories(path_ / rank);
    std::ofstream out(path_ / rank / "model_optim_rng.pt", std::ios::binary);
    WriteTorchArchive(out, "model_optim_rng", pickle.Finish(), storages);
  }

  static void Tensor(PickleWriter& pickle, const View& view, std::vector<TorchStorage>& storages) {
    std::int64_t elements = 1;
    std::vector<std::int64_t> strides(view.shape.size(), 1);
    for (std::size_t axis = view.shape.size(); axis-- > 0;) {
      strides[axis] = elements;
      elements *= view.shape[axis];
    }
    const std::int64_t size = view.storage > 0 ? view.storage : elements;
    pickle.Global("torch._utils", "_rebuild_tensor_v2").Mark();
    pickle.Mark().Text("storage").Global("torch", "ByteStorage").Text(std::to_string(storages.size()));
    pickle.Text("cpu").Integer(size).Tuple().PersistentId().Integer(view.offset);
    Numbers(pickle, view.shape);
    Numbers(pickle, view.strides.empty() ? strides : view.strides);
    pickle.Boolean(false).Global("collections", "OrderedDict").EmptyTuple().Reduce().Tuple().Reduce();
    storages.push_back({size, [](std::ostream& out, std::int64_t bytes) {
                          for (std::int64_t i = 0; i < bytes; ++i) {
                            out.put(static_cast<char>(i));
                          }
                        }});
  }

  static void Numbers(PickleWriter& pickle, const std::vector<std::int64_t>& numbers) {
    pickle.Mark();
    for (const std::int64_t number : numbers) {
      pickle.Integer(number);
    }
    pickle.Tuple();
  }

  // The bytes of a tensor of the checkpoint, or the error.
  std::string Bytes(const std::string& name) {
    const auto checkpoint = Read(path_.string());
    if (!checkpoint.ok()) {
      return Describe(checkpoint.status());
    }
    for (const engine::StoredTensor& tensor : (*checkpoint)->tensors) {
      if (tensor.name == name) {
        const auto dense = ReadStored(**checkpoint, tensor);
        return dense.ok() ? dense->bytes : Describe(dense.status());
      }
    }
    return "no such tensor";
  }

  // The bytes of a canonical tensor, or the error.
  std::string Canonical(const std::string& name) {
    const auto checkpoint = Read(path_.string());
    const auto tensors = checkpoint.ok() ? engine::Canonicalize(**checkpoint) : checkpoint.status();
    if (!tensors.ok()) {
      return Describe(tensors.status());
    }
    const auto found = tensors->find(name);
    if (found == tensors->end()) {
      return "no such tensor";
    }
    const auto dense = ReadCanonical(**checkpoint, found->second);
    return dense.ok() ? dense->bytes : Describe(dense.status());
  }

  absl::Status Refusal() { return Read(path_.string()).status(); }

  std::filesystem::path path_;
};

}  // namespace slipway::test
