// Versions of TensorRT-LLM that build engines from checkpoints, and what differs between them.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace slipway::engine::tensorrt_llm {

struct Version {
  int major = 0;
  int minor = 0;
  friend constexpr bool operator<(Version a, Version b) {
    return a.major != b.major ? a.major < b.major : a.minor < b.minor;
  }
};

inline constexpr Version kOldest{0, 11};
inline constexpr Version kOneZero{1, 0};

std::string ToString(Version version);

struct Dialect {
  Version version = kOldest;
  bool named = false;            // by the user; otherwise what is written suits all versions, as far as the model does
  bool balanced_stages = false;  // the first stages take a layer more where the layers do not divide
};

// The dialect of "0.17", "0.17.0", "1.2.0rc3", ...; of "", the common one. OPTION_UNSUPPORTED for any other version.
absl::StatusOr<Dialect> FindDialect(std::string_view version);

}  // namespace slipway::engine::tensorrt_llm
