// Where the common state of a distributed checkpoint is: one torch.save archive that holds all of it, or one a value.
#pragma once

#include <cstdint>
#include <string_view>

#include "absl/status/status.h"
#include "worker/engine/checkpoint/arguments.h"
#include "worker/engine/storage/source.h"

namespace slipway::engine {

enum class CommonForm {
  kDictionary,        // common.pt
  kListOfDictionary,  // an entry "common_state/...": a list of one
  kValue,             // an entry of its own for each key
};

// Reads the archive at [offset, offset+length) of `file` into `common`. `key` is the value's (kValue only). Errors as
// of TorchArchive, ParsePickle and ReadCommonState, with file and offset.
absl::Status ReadCommonArchive(const SourceFile& file, std::int64_t offset, std::int64_t length, CommonForm form,
                               std::string_view key, CommonState& common);

}  // namespace slipway::engine
