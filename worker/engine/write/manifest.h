// manifest.json of an artifact: what it is, where it came from, every file and every tensor.
//
// {"format": "slipway-artifact", "version": 1, "tool": {"name", "version"}, "export", "plan_hash", "output_hash",
// "architecture", "options" (options_json.h; not of artifacts of old), "source": {"path", "format", "iteration",
// "files": [{"name", "size", "modified"}]},
// "digest_algorithm", "files": [{"path", "size", "digest"}], "tensors": [{"name", "dtype", "shape", "file", "offset",
// "bytes", "xxh3", "rounding" (of tensors that were cast: "from", a dtype, and what rounding_json.h has),
// "quantization" (of codes: "format", "sqnr_db", null where there is no error, "relative_error")}],
// "directories" (of several targets): [{"path", "target"}]}
//
// "files" lists everything in the directory but the manifest itself; "offset" counts from the start of the file;
// Of an export of several targets, each directory has a manifest of its own and is what an export of the target alone
// leaves; the manifest above them lists the files of them all and no tensors.
// "modified" is in nanoseconds since the epoch; digests and checksums are empty where they were turned off.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "common/digest.h"
#include "worker/engine/dtype.h"
#include "worker/engine/plan/export_plan.h"
#include "worker/engine/shape.h"
#include "worker/engine/transform/rounding.h"

namespace slipway::engine {

inline constexpr std::string_view kManifestFile = "manifest.json";
inline constexpr std::int64_t kMaximumManifest = std::int64_t{1} << 30;

struct ManifestSourceFile {
  std::string name;
  std::int64_t size = 0;
  std::int64_t modified_ns = 0;
};

struct ManifestFile {
  std::string path;
  std::int64_t size = 0;
  std::string digest;
};

struct ManifestCast {
  DType from = DType::kF32;
  Rounding rounding;
};

struct ManifestQuantization {
  std::string format;
  double sqnr = 0;  // in dB; infinite where there is no error
  double relative_error = 0;
};

struct ManifestTensor {
  std::string name;
  DType dtype = DType::kBF16;
  Shape shape;
  std::string file;
  std::int64_t offset = 0;
  std::int64_t bytes = 0;
  std::string xxh3;
  std::optional<ManifestCast> cast = std::nullopt;
  std::optional<ManifestQuantization> quantization = std::nullopt;
};

// Of an export of several targets: a directory that is an artifact of its own.
struct ManifestDirectory {
  std::string path;  // a name beside the manifest
  std::string target;
};

struct Manifest {
  std::string export_name;
  std::string plan_hash;
  std::string output_hash;
  std::string architecture;
  std::optional<ExportOptions> options = std::nullopt;  // all but the checkpoint and the digest
  std::string source_path;
  std::string source_format;
  std::int64_t iteration = 0;
  std::vector<ManifestSourceFile> source_files;
  DigestAlgorithm digest = DigestAlgorithm::kSha256;
  std::vector<ManifestFile> files;
  std::vector<ManifestTensor> tensors;
  std::vector<ManifestDirectory> directories = {};
};

[[nodiscard]] std::string ManifestToJson(const Manifest& manifest);

// ARTIFACT_CORRUPT for anything that ManifestToJson would not have written, extra fields excepted.
absl::StatusOr<Manifest> ParseManifest(std::string_view text);

}  // namespace slipway::engine
