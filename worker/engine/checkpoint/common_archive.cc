#include "worker/engine/checkpoint/common_archive.h"

#include <span>
#include <utility>

#include "common/error.h"
#include "worker/engine/checkpoint/torch_archive.h"

namespace slipway::engine {
namespace {

absl::Status Read(const PickleDocument& document, CommonForm form, std::string_view key, CommonState& common) {
  PickleValue state = document.root();
  if (form == CommonForm::kValue) {
    return AddCommonValue(document, key, state, common);
  }
  if (form == CommonForm::kListOfDictionary) {
    const std::span<const PickleValue> items = document.Items(state);
    if (items.empty()) {
      return Error(Reason::kCheckpointCorrupt, "the common state is an empty list");
    }
    state = items[0];
  }
  SLIPWAY_ASSIGN_OR_RETURN(common, ReadCommonState(document, state));
  return absl::OkStatus();
}

}  // namespace

absl::Status ReadCommonArchive(const SourceFile& file, std::int64_t offset, std::int64_t length, CommonForm form,
                               std::string_view key, CommonState& common) {
  SLIPWAY_ASSIGN_OR_RETURN(const TorchArchive archive, TorchArchive::Open(file, offset, length));
  SLIPWAY_ASSIGN_OR_RETURN(const PickleDocument document, archive.ReadPickle());
  return AddWhere(Read(document, form, key, common), {.file = file.name(), .offset = offset});
}

}  // namespace slipway::engine
