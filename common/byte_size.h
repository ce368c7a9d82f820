// Sizes as people write them: "8GiB", "512MiB", "5GB", "1.5 GB", "1048576".
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace slipway {

// Bytes. Units: B, kB, MB, GB, TB (powers of 1000), KiB, MiB, GiB, TiB (powers of 1024), without regard to case; no
// unit: bytes. A fraction needs a unit and is rounded down to whole bytes. INVALID_ARGUMENT for anything else, a
// negative size, or one that does not fit 63 bits.
absl::StatusOr<std::int64_t> ParseByteSize(std::string_view text);

// For people: three significant digits and a unit of 1024 ("2.77 GiB", "512 B"). Negative sizes keep their sign.
std::string FormatByteSize(std::int64_t bytes);

}  // namespace slipway
