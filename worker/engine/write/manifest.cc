#include "worker/engine/write/manifest.h"

#include <limits>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "common/error.h"
#include "worker/engine/plan/options_json.h"
#include "worker/engine/write/report_numbers.h"
#include "worker/engine/write/rounding_json.h"

namespace slipway::engine {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::string_view kFormat = "slipway-artifact";
constexpr int kVersion = 1;

std::string Dump(const Json& value) { return value.dump(-1, ' ', false, Json::error_handler_t::replace); }

Json RowOf(const ManifestSourceFile& file) {
  return {{"name", file.name}, {"size", file.size}, {"modified", file.modified_ns}};
}

Json RowOf(const ManifestDirectory& directory) { return {{"path", directory.path}, {"target", directory.target}}; }

Json RowOf(const ManifestFile& file) { return {{"path", file.path}, {"size", file.size}, {"digest", file.digest}}; }

Json RoundingOf(const ManifestCast& cast) {
  Json rounding{{"from", std::string(InfoOf(cast.from).safetensors_name)}};
  rounding.update(RoundingToJson(cast.rounding));
  return rounding;
}

Json RowOf(const ManifestTensor& tensor) {
  Json shape = Json::array();
  for (const std::int64_t extent : tensor.shape) {
    shape.push_back(extent);
  }
  Json row{{"name", tensor.name},       {"dtype", std::string(InfoOf(tensor.dtype).safetensors_name)},
           {"shape", std::move(shape)}, {"file", tensor.file},
           {"offset", tensor.offset},   {"bytes", tensor.bytes},
           {"xxh3", tensor.xxh3}};
  if (tensor.cast) {
    row["rounding"] = RoundingOf(*tensor.cast);
  }
  if (tensor.quantization) {
    row["quantization"] = {{"format", tensor.quantization->format},
                           {"sqnr_db", RoundedNumber(tensor.quantization->sqnr)},
                           {"relative_error", RoundedNumber(tensor.quantization->relative_error)}};
  }
  return row;
}

// Rows are turned into text one by one: a manifest of 100,000 tensors never exists as a tree.
template <class Row>
std::string Rows(const std::vector<Row>& rows) {
  std::string text = "[";
  for (const Row& row : rows) {
    text += text.size() > 1 ? ",\n    " : "\n    ";
    text += Dump(RowOf(row));
  }
  return text + (rows.empty() ? "]" : "\n  ]");
}

DType DTypeOf(const nlohmann::json& row, const char* key) {
  const auto dtype = DTypeFromSafetensorsName(row.at(key).get<std::string>());
  if (!dtype) {
    throw nlohmann::json::other_error::create(501, "unknown dtype", &row);
  }
  return *dtype;
}

ManifestTensor TensorOf(const nlohmann::json& row) {
  ManifestTensor tensor;
  tensor.name = row.at("name");
  tensor.dtype = DTypeOf(row, "dtype");
  for (const nlohmann::json& extent : row.at("shape")) {
    tensor.shape.push_back(extent.get<std::int64_t>());
  }
  tensor.file = row.at("file");
  tensor.offset = row.at("offset");
  tensor.bytes = row.at("bytes");
  tensor.xxh3 = row.at("xxh3");
  if (const auto rounding = row.find("rounding"); rounding != row.end()) {
    tensor.cast = {.from = DTypeOf(*rounding, "from"), .rounding = RoundingFromJson(*rounding)};
  }
  if (const auto quantization = row.find("quantization"); quantization != row.end()) {
    const nlohmann::json& sqnr = quantization->at("sqnr_db");
    tensor.quantization = {.format = quantization->at("format"),
                           .sqnr = sqnr.is_null() ? std::numeric_limits<double>::infinity() : sqnr.get<double>(),
                           .relative_error = quantization->at("relative_error")};
  }
  return tensor;
}

Manifest ManifestOf(const nlohmann::json& json) {
  Manifest manifest;
  manifest.export_name = json.at("export");
  manifest.plan_hash = json.at("plan_hash");
  manifest.output_hash = json.at("output_hash");
  manifest.architecture = json.at("architecture");
  if (const auto options = json.find("options"); options != json.end()) {
    manifest.options = OptionsFromJson(*options);
  }
  const nlohmann::json& source = json.at("source");
  manifest.source_path = source.at("path");
  manifest.source_format = source.at("format");
  manifest.iteration = source.at("iteration");
  for (const nlohmann::json& file : source.at("files")) {
    manifest.source_files.push_back({file.at("name"), file.at("size"), file.at("modified")});
  }
  const auto digest = DigestAlgorithmFromName(json.at("digest_algorithm").get<std::string>());
  if (!digest) {
    throw nlohmann::json::other_error::create(501, "unknown digest algorithm", &json);
  }
  manifest.digest = *digest;
  for (const nlohmann::json& file : json.at("files")) {
    manifest.files.push_back({file.at("path"), file.at("size"), file.at("digest")});
  }
  for (const nlohmann::json& tensor : json.at("tensors")) {
    manifest.tensors.push_back(TensorOf(tensor));
  }
  if (const auto directories = json.find("directories"); directories != json.end()) {
    for (const nlohmann::json& directory : *directories) {
      manifest.directories.push_back({directory.at("path"), directory.at("target")});
      const std::string& path = manifest.directories.back().path;
      const bool has_separator = path.find_first_of(std::string_view("/\0", 2)) != std::string::npos;
      if (path.empty() || path == "." || path == ".." || has_separator) {
        throw nlohmann::json::other_error::create(501, "a directory that is no name", &directory);
      }
    }
  }
  return manifest;
}

}  // namespace

std::string ManifestToJson(const Manifest& manifest) {
  const Json tool{{"name", "slipway"}, {"version", SLIPWAY_VERSION}};
  std::string text = "{\n";
  const auto field = [&text](std::string_view name, const std::string& value) {
    text += fmt::format("{}  \"{}\": {}", text.size() > 2 ? ",\n" : "", name, value);
  };
  field("format", Dump(std::string(kFormat)));
  field("version", std::to_string(kVersion));
  field("tool", Dump(tool));
  field("export", Dump(manifest.export_name));
  field("plan_hash", Dump(manifest.plan_hash));
  field("output_hash", Dump(manifest.output_hash));
  field("architecture", Dump(manifest.architecture));
  if (manifest.options) {
    field("options", Dump(OptionsToJson(*manifest.options)));
  }
  field("source",
        fmt::format(R"({{"path": {}, "format": {}, "iteration": {}, "files": {}}})", Dump(manifest.source_path),
                    Dump(manifest.source_format), manifest.iteration, Rows(manifest.source_files)));
  field("digest_algorithm", Dump(std::string(NameOf(manifest.digest))));
  field("files", Rows(manifest.files));
  field("tensors", Rows(manifest.tensors));
  if (!manifest.directories.empty()) {
    field("directories", Rows(manifest.directories));
  }
  return text + "\n}\n";
}

absl::StatusOr<Manifest> ParseManifest(std::string_view text) {
  try {
    const nlohmann::json json = nlohmann::json::parse(text);
    if (json.at("format") != std::string(kFormat) || json.at("version") != kVersion) {
      return Error(Reason::kArtifactCorrupt, "not a manifest of a version that is known here");
    }
    return ManifestOf(json);
  } catch (const nlohmann::json::exception& error) {
    return Error(Reason::kArtifactCorrupt, fmt::format("the manifest cannot be understood: {}", error.what()));
  }
}

}  // namespace slipway::engine
